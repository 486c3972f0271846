"""Radii are exact, and what cannot be a radius is refused."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.eps import off_grid, parse_eps, slug
from harness.errors import UsageError


@given(st.integers(0, 254))
def test_pixel_fractions_are_exact(k: int) -> None:
    eps = parse_eps(f"{k}/255")
    assert eps == Fraction(k, 255)
    assert Fraction(slug(eps).replace("-", "/")) == eps


@given(st.integers(3, 254))
def test_a_decimal_that_python_writes_for_whole_levels_means_these(k: int) -> None:
    """Half of them lie below, where a level less would fit. From 3 on, since a radius has no exponent."""
    assert parse_eps(repr(k / 255)) == Fraction(k, 255) and off_grid(repr(k / 255)) is None


@pytest.mark.parametrize(
    "text", ["8", "0.03.1", "", "-1/255", "8/0", "eps", "1", "0.99999999999999999999", "300/255", "8/255 ", "1e-2", "nan", "½"]
)
def test_what_is_not_a_radius(text: str) -> None:
    with pytest.raises(UsageError, match="--eps"):
        parse_eps(text)


def test_a_whole_number_gets_the_likely_fraction() -> None:
    with pytest.raises(UsageError, match="Did you mean 8/255"):
        parse_eps("8")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.031", "7.905 levels of 1/255"),
        ("0.2", None),
        ("8/255", None),
        ("0.0314", "8.007 levels"),
        ("0.0313725", "just below 8 levels of 1/255. Images are bytes: 7 levels fit into it"),
        ("0.0313726", "just above 8 levels of 1/255. Images are bytes: 8 levels fit into it"),
    ],
)
def test_a_radius_off_the_grid_of_bytes_says_its_levels(text: str, said: str | None) -> None:
    note = off_grid(text)
    assert note is None if said is None else note is not None and said in note and "255 meant" in note
