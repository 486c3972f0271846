"""Every way a requirements file can be wrong is one line that names the file's line; every kind can be written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.requirements.file import read_requirements
from harness.requirements.kinds import KINDS

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "docs/examples").glob("*.toml"))
PAGE = (ROOT / "docs/requirements.md").read_text()

# text -> the line that is named, and what the error says
WRONG = {
    "empty": ("", 1, ("nothing is required", "clean-accuracy")),
    "only a head": ('name = "x"\nconfidence = 0.9\n', 1, ("nothing is required",)),
    "unknown kind": ('\nlatencies = { at_most = "1 ms" }', 2, ("unknown key 'latencies'", "Did you mean latency")),
    "unknown key": (
        'latency = [\n  { percentile = "p50", batch = 1, at_most = "1 ms" },\n  { percentil = "p50", batch = 8, at_most = "1 ms" },\n]',
        3,
        ("unknown key 'percentil'", "Did you mean percentile"),
    ),
    "the other side": ('[memory]\nat_least = "1 MiB"', 2, ("unknown key 'at_least'", "at_most")),
    "a number without unit": ("[memory]\n\nat_most = 100", 3, ("100 is not a size", "120 MiB")),
    "a text without unit": ('memory = { at_most = "100" }', 1, ("'100' has no unit", "MiB")),
    "wrong unit": ('memory = { at_most = "100 ms" }', 1, ("the unit 'ms'", "MiB")),
    "no figure": ('memory = { at_most = "little" }', 1, ("'little' is not a size",)),
    "negative": ('load-time = { at_most = "-5 ms" }', 1, ("'-5 ms' cannot be meant", "above 0")),
    "zero": ('clean-loss = { at_most = "0 points" }', 1, ("at least 0.01 points",)),
    "too fine": ('robust-accuracy = { at_least = "1e-300 %" }', 1, ("at least 0.01 %",)),
    "120 %": ('clean-accuracy = { at_least = "120 %" }', 1, ("'120 %' cannot be meant", "below 100 %")),
    "100 %": ('clean-accuracy = { at_least = "100 %" }', 1, ("cannot be meant",)),
    "too large": ('load-time = { at_most = "1e999 s" }', 1, ("cannot be meant",)),
    "percent for points": ('clean-loss = { at_most = "2 %" }', 1, ("the unit '%'", "points")),
    "a bare limit": ('clean-accuracy = "75 %"', 1, ("'75 %'", "expected clean-accuracy = { at_least = … }")),
    "a list of limits": ('\nclean-accuracy = [\n"75 %"]', 3, ("expected clean-accuracy",)),
    "no limit": ("\n\nclean-accuracy = {}", 3, ("lacks at_least",)),
    "no percentile": ('latency = { batch = 1, at_most = "1 ms" }', 1, ("lacks percentile",)),
    "percentile": ('latency = { percentile = "p100", batch = 1, at_most = "1 ms" }', 1, ("'p100' is not a percentile",)),
    "percentile 0": ('latency = { percentile = "p0", batch = 1, at_most = "1 ms" }', 1, ("'p0' is not a percentile",)),
    "batch": ('latency = { percentile = "p50", batch = 0, at_most = "1 ms" }', 1, ("batch: 0 is not a whole number",)),
    "batch as text": ('throughput = { batch = "8", at_least = "1 images/s" }', 1, ("batch: '8'",)),
    "batch as truth": ('throughput = { batch = true, at_least = "1 images/s" }', 1, ("batch: True",)),
    "eps": ('robust-accuracy = { eps = "8", at_least = "40 %" }', 1, ("Did you mean 8/255",)),
    "eps as number": ('robust-accuracy = { eps = 0.03, at_least = "40 %" }', 1, ("0.03 is not a radius",)),
    "no eps": ('robust-accuracy = { eps = "0", at_least = "40 %" }', 1, ("above 0",)),
    "source": ('robust-accuracy = { source = "S33", at_least = "40 %" }', 1, ("unknown source 'S33'", "S3")),
    "a source that decides nothing": ('robust-accuracy = { source = "S0", at_least = "40 %" }', 1, ("unknown source 'S0'",)),
    "sources": ('sources = { all_of = "S1" }', 1, ("'S1' is not a list",)),
    "unknown source": ('\nsources = { all_of = ["S1", "S9"] }', 2, ("unknown source 'S9'",)),
    "unknown gate": ('gates = { may_fail = ["conditons"] }', 1, ("unknown gate 'conditons'", "Did you mean conditions")),
    "an engine for the run": ('gates = { may_fail = [], engine = "x" }', 1, ("unknown key 'engine'",)),
    "no source": ("sources = { all_of = [] }", 1, ("[] requires nothing",)),
    "an empty list beside others": ('images = { at_least = 1 }\nlatency = []', 2, ("latency is [], which requires nothing", "percentile")),
    "real = false": ("hardware = { real = false }", 1, ("False requires nothing",)),
    "count": ("images = { at_least = 0 }", 1, ("0 is not a whole number",)),
    "half an image": ("images = { at_least = 0.5 }", 1, ("0.5 is not a whole number",)),
    "twice": (
        'memory = { at_most = "1 GiB" }\n[[throughput]]\nbatch = 1\nat_least = "1 fps"\n[[throughput]]\nat_least = "2 fps"\nbatch = 1',
        5,
        ("throughput, batch 1 is required on line 2 already",),
    ),
    "eps twice": (
        'robust-accuracy = [\n{ eps = "8/255", at_least = "1 %" },\n{ eps = "16/510", at_least = "2 %" }]',
        3,
        ("required on line 2 already",),
    ),
    "confidence": ('confidence = 95\nmemory = { at_most = "1 B" }', 1, ("confidence is 95",)),
    "confidence as truth": ('confidence = true\nmemory = { at_most = "1 B" }', 1, ("confidence is True",)),
    "schema": ('memory = { at_most = "1 B" }\nschema = 2', 2, ("schema is 2",)),
    "engines": ('engines = "ort-int8"\nmemory = { at_most = "1 B" }', 1, ("engines is 'ort-int8'", "list")),
    "name": ('name = 3\nmemory = { at_most = "1 B" }', 1, ("name: 3",)),
    "engine": ('memory = [\n{ at_most = "1 B", engine = 3 }]', 2, ("engine: 3",)),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_one_line_that_names_the_line(case, tmp_path):
    text, line, expected = WRONG[case]
    (tmp_path / "q.toml").write_text(text)
    with pytest.raises(UsageError) as told:
        read_requirements(tmp_path / "q.toml")
    said = str(told.value)
    assert said.startswith(f"{tmp_path / 'q.toml'}, line {line}: "), said
    assert "\n" not in said
    for words in expected:
        assert words in said


def test_what_is_no_toml_names_its_line(tmp_path):
    for text, line in (
        ("a = 1\nb = = 2", 2),
        ('memory = { at_most = "1 B" }\nmemory = { at_most = "2 B" }', 2),
        ('[memory]\nat_most = "1 B"\n\n[memory]\nat_most = "2 B"\n[images]\nat_least = 1', 4),
        ('memory = [\n{ at_most = "1 B" },\n{ at_most = "1 B", at_most = "1 B" }]', 3),
    ):
        (tmp_path / "q.toml").write_text(text)
        with pytest.raises(UsageError, match=f"it is not TOML.*line {line}"):
            read_requirements(tmp_path / "q.toml")
    with pytest.raises(UsageError, match="cannot read requirements"):
        read_requirements(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("written", "base"),
    [("20 ms", 20), ("0.5 s", 500), ("250us", 0.25), ("1_000 ns", 1e-3), ("1e2 µs", 0.1), ("1e2 \u03bcs", 0.1), (" 20ms ", 20)],
)
def test_durations_are_read_in_milliseconds(written, base, tmp_path):
    (tmp_path / "q.toml").write_text(f'load-time = {{ at_most = "{written}" }}')
    (line,) = read_requirements(tmp_path / "q.toml").lines
    assert line.limit == pytest.approx(base)


def test_a_table_a_list_and_tables_with_headers_are_the_same(tmp_path):
    written = (
        'memory = { at_most = "2 KiB" }',
        'memory = [{ at_most = "2048 B" }]',
        '[memory]\nat_most = "2 KiB"',
        '[[memory]]\nat_most = "2 KiB"',
    )
    for text in written:
        (tmp_path / "q.toml").write_text(text)
        (line,) = read_requirements(tmp_path / "q.toml").lines
        assert (line.kind, line.limit, line.engine) == ("memory", 2048, None)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_files(path):
    wanted = read_requirements(path)
    assert wanted.lines and wanted.engines
    told = re.search(r"--requirements (\S+)", path.read_text())
    assert told and told[1] == path.name


def test_the_examples_are_three_and_show_every_kind():
    assert {path.stem for path in EXAMPLES} == {"jetson-orin-classifier", "raspberry-pi", "x86-server"}
    assert {line.kind for path in EXAMPLES for line in read_requirements(path).lines} == set(KINDS)


def test_the_page_tells_of_every_kind_and_its_example_is_one(tmp_path):
    for key, kind in KINDS.items():
        (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{key}`")]
        assert f"`{kind.side}" in row
        assert all(f"`{name}`" in row for name in kind.options)
    (text,) = re.findall(r"```toml qualification\n(.*?)```", PAGE, re.S)
    (tmp_path / "q.toml").write_text(text)
    assert len(read_requirements(tmp_path / "q.toml").lines) == 7
