"""Attack radii: exact fractions, because 0.031 is not 8/255."""

from __future__ import annotations

import re
from fractions import Fraction

from harness.errors import UsageError

_FORM = re.compile(r"\d+/[1-9]\d*|\d*\.?\d+")


def parse_eps(text: str) -> Fraction:
    """Read a radius on the [0, 1] scale, written as a fraction (`8/255`) or a decimal (`0.03`).

    A decimal that is the floating-point number of whole levels means these: 0.03137254901960784, as Python writes 8/255, is below 8/255,
    and only 7 levels would fit into it.

    Raises:
        UsageError: not a number of that form, or not in [0, 1).
    """
    if not _FORM.fullmatch(text):
        raise UsageError(f"--eps '{text}' is not a radius. Expected a fraction such as 8/255 or a decimal such as 0.03.")
    value = Fraction(text)
    levels = round(255 * value)
    if value < 1 and float(value) == levels / 255:
        value = Fraction(levels, 255)
    if value >= 1:
        raise UsageError(
            f"--eps {text} does not fit images in [0, 1]. Did you mean {text}/255?"
            if text.isdigit() and value <= 255
            else f"--eps {text} is not below 1."
        )
    return value


def off_grid(text: str) -> str | None:
    """What to say of a radius that is no whole number of levels of an 8-bit image; None of one that is."""
    levels = parse_eps(text) * 255
    if levels.denominator == 1:
        return None
    seen = f"{float(levels):.4g}"
    if Fraction(seen).denominator == 1:
        seen = f"just {'below' if levels < Fraction(seen) else 'above'} {seen}"
    return (
        f"--eps {text} is {seen} levels of 1/255. Images are bytes: {int(levels)} levels fit into it, as into "
        f"{int(levels)}/255. Is {max(1, round(levels))}/255 meant?"
    )


def slug(eps: Fraction) -> str:
    """A file-name form of a radius: 8/255 -> `8-255`."""
    return f"{eps.numerator}-{eps.denominator}"
