from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import format as written


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (written.percent, 0.41, "41.0 %"),
        (written.percent, 1.0, "100.0 %"),
        (written.percent, -0.0001, "0.0 %"),
        (written.percent, 0.9996, "99.96 %"),
        (written.percent, 0.99996, "99.996 %"),
        (written.percent, 0.0004, "0.04 %"),
        (written.percent, 0.0, "0.0 %"),
        (written.percent, 1e-9, "0.0 %"),
        (written.factor, 1.5, "1.50"),
        (written.factor, 0.00412, "0.00412"),
        (written.factor, 0.0, "0.00"),
        (written.percent, None, "–"),
        (written.points, 0.012, "+1.2"),
        (written.points, -0.012, "−1.2"),
        (written.points, -0.0001, "0.0"),
        (written.milliseconds, 0.43684, "0.437 ms"),
        (written.milliseconds, 9.996, "10.0 ms"),
        (written.milliseconds, 10.0, "10.0 ms"),
        (written.milliseconds, 999.6, "1,000 ms"),
        (written.milliseconds, 1234.0, "1,230 ms"),
        (written.milliseconds, 123.4, "123 ms"),
        (written.significant, 4.1e-7, "4.1e-07"),
        (written.significant, 0.0, "0.00"),
        (written.size, 0, "0 B"),
        (written.size, 1023, "1023 B"),
        (written.size, 1024, "1.00 KiB"),
        (written.size, 2_900_000, "2.77 MiB"),
        (written.size, 5 * 1024**4, "5,120 GiB"),
        (written.size, None, "–"),
        (written.count, 1_234_567, "1,234,567"),
    ],
)
def test_a_number_is_written_so(function, value, text):
    assert function(value) == text


def test_an_estimate_stands_before_its_interval():
    assert written.estimate(0.41, (0.351, 0.471)) == "41.0 % [35.1, 47.1]"


@given(st.floats(1e-3, 1e6))
def test_three_significant_digits_are_kept(value):
    shown = float(written.significant(value).replace(",", ""))
    assert math.isclose(shown, value, rel_tol=0.005)
    assert "e" not in written.significant(value)


@given(st.text())
def test_cleaned_text_is_one_printable_line(text):
    cleaned = written.clean(text)
    assert cleaned.isprintable()
    cleaned.encode()  # no lone surrogate is left
    assert written.clean(cleaned) == cleaned.strip()


def test_line_ends_are_shown_and_escapes_are_not_obeyed():
    assert written.clean("first\nsecond\x1b[31m\u202e") == "first ⏎ second�[31m�"


@pytest.mark.parametrize("text", ["the first call took 8.1 ms", "1200 images/s", "took 3 seconds", "900 µs"])
def test_a_sentence_with_a_duration_is_known(text):
    assert written.speaks_of_time(text)


@pytest.mark.parametrize("text", ["the label is withheld", "7 misses in 3 sets", "8 times the median"])
def test_a_sentence_without_a_duration_is_known(text):
    assert not written.speaks_of_time(text)


def test_nested_values_become_dotted_names():
    values = {"a": {"b": 1, "c": [0.009715668023255731, "x"]}, "d": None, "e": [], "f": True, "g": 25276502016.0}
    assert list(written.flat(values)) == [("a.b", "1"), ("a.c", "0.009716, x"), ("f", "True"), ("g", "25276502016")]


def test_a_margin_is_as_fine_as_it_was_asked_for():
    assert [written.allowed(share) for share in (0.02, 0.05, 0.015, 0.0004, 0.0001, 0.9999)] == [
        "2.0",
        "5.0",
        "1.5",
        "0.04",
        "0.01",
        "99.99",
    ]


def test_a_class_without_a_name_is_numbered():
    assert [written.class_name(["cat"], label) for label in (0, 1, -1)] == ["cat", "class 1", "class -1"]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (20.0, "ms", "20.0 ms"),
        (2**20, "B", "1.00 MiB"),
        (0.75, "share", "75 %"),
        (0.7512, "share", "75.12 %"),
        (0.01, "points", "1 point"),
        (0.015, "points", "1.5 points"),
        (-0.02, "points", "−2 points"),
        (-1e-9, "points", "0 points"),
        (1000.0, "count", "1,000"),
        (["S1", "S3"], "names", "S1, S3"),
        ([], "names", "none"),
        (True, "truth", "yes"),
        (None, "ms", "–"),
        (325.4, "images/s", "325 images/s"),
    ],
)
def test_a_figure_is_written_in_its_unit(value, unit, text):
    assert written.figure(value, unit) == text


@pytest.mark.parametrize(
    ("share", "margin", "text"),
    [
        (0.0204, 0.02, "+2.04"), (0.02, 0.02, "+2.0"), (0.0196, 0.02, "+1.96"), (0.012, 0.02, "+1.2"), (0.019996, 0.02, "+2.000"),
        (0.0004, 0.02, "+0.04"), (-0.0004, 0.02, "−0.04"), (0.0, 0.02, "0.0"), (0.0204, None, "+2.0"),
    ],
)  # fmt: skip
def test_points_are_as_fine_as_keeps_them_on_their_side_of_zero_and_of_a_margin(share, margin, text):
    assert written.points(share, margin) == text
