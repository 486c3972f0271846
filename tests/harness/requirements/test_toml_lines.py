"""Every key is found on its line, however the file is written."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.toml.lines import lines

WRITTEN = '''# a comment with [brackets] = and "quotes
title = "a # that is no comment"

[first]   # table
a.b = 1.5
"quoted key" = { x = 1, y = { z = [1, 2] } }
list = [   # begins
    { k = 1, at_most = "8 ms" },

    { k = 2 },  # last
]
text = """
[no.table]
k = 1"""
literal = \'\'\'
a = "b"
\'\'\'
date = 1979-05-27T07:32:00Z
[[many]]
a = 1
[[many]]
a = 2
b = [[1, 2], [
  3]]
[many.deep]
c = -1e3
'''
PLACES = {
    ("title",): 2, ("first",): 4, ("first", "a", "b"): 5, ("first", "quoted key", "y", "z", 1): 6, ("first", "list"): 7,
    ("first", "list", 0, "at_most"): 8, ("first", "list", 1): 10, ("first", "text"): 12, ("first", "literal"): 15, ("first", "date"): 18,
    ("many", 0): 19, ("many", 0, "a"): 20, ("many", 1): 21, ("many", 1, "a"): 22, ("many", 1, "b", 1, 0): 24,
    ("many", 1, "deep", "c"): 26,
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_a_key_is_on_its_line(place):
    assert lines(WRITTEN)[place] == PLACES[place]


KEYS = st.text("abcdef-_09", min_size=1, max_size=4)
SCALARS = st.sampled_from(["1", "-2.5", "true", '"a = [b"', "'it # is'", "1979-05-27", '"""x\ny"""', "[ 1,\n 2 ]", "{ a = 1, b = '}' }"])


@given(st.dictionaries(KEYS, SCALARS, max_size=6), st.dictionaries(KEYS, st.dictionaries(KEYS, SCALARS, max_size=3), max_size=3))
def test_each_key_that_the_reader_finds_begins_the_line_that_is_named(top, tables):
    text = "".join(f"{key} = {value}\n" for key, value in top.items())
    text += "".join(f"[{name}x]\n" + "".join(f"  {key} = {value} # ]\n" for key, value in table.items()) for name, table in tables.items())
    content, found, written = tomllib.loads(text), lines(text), text.split("\n")
    for key, value in content.items():
        assert written[found[key,] - 1].startswith((f"{key} =", f"[{key}]"))
        for inner in value if isinstance(value, dict) and key not in top else ():
            assert written[found[key, inner] - 1].startswith(f"  {inner} =")
