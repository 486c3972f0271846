"""The colours of the style sheet against WCAG 2.2, level AA: 4.5 to 1 for text, 3 to 1 for what is drawn."""

from __future__ import annotations

import re

import pytest

from reports.html import STYLESHEET
from reports.plots import VARIABLES

TEXT = ("ink", "muted", "link", "good", "warn", "bad")
HEAT = 0.35  # the deepest shade of a cell, as the template has it


def schemes() -> dict[str, dict[str, tuple[float, ...]]]:
    """Light, dark and paper: variable -> red, green, blue in [0, 1]."""
    blocks = re.findall(r":root \{(.*?)\}", STYLESHEET.read_text(), re.DOTALL)
    found = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", block)) for block in blocks]
    return {
        name: {key: rgb(value) for key, value in colours.items()} for name, colours in zip(("light", "dark", "print"), found, strict=True)
    }


def rgb(text: str) -> tuple[float, ...]:
    digits = text[1:] if len(text) == 7 else "".join(2 * digit for digit in text[1:])
    return tuple(int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))


def luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance, WCAG 2.2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_formula_is_the_published_one():
    assert contrast(rgb("#000"), rgb("#fff")) == pytest.approx(21)
    assert contrast(rgb("#777777"), rgb("#ffffff")) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_text_and_drawings_can_be_told_from_what_is_behind_them(scheme):
    colours = schemes()[scheme]
    shaded = tuple(HEAT * a + (1 - HEAT) * b for a, b in zip(colours["series-0"], colours["paper"], strict=True))
    assert contrast(colours["ink"], shaded) >= 4.5
    for behind in ("paper", "raised"):
        for name in TEXT:
            assert contrast(colours[name], colours[behind]) >= 4.5, (name, behind)
    for i in range(6):
        assert contrast(colours[f"series-{i}"], colours["paper"]) >= 3, i


def test_every_colour_of_a_figure_follows_the_scheme():
    for name, colours in schemes().items():
        assert set(VARIABLES.values()) <= colours.keys(), name
