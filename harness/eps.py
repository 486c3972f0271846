"""Attack radii: exact fractions, because 0.031 is not 8/255."""

from __future__ import annotations

import re
from fractions import Fraction

from harness.errors import UsageError

_FORM = re.compile(r"\d+/[1-9]\d*|\d*\.?\d+")


def parse_eps(text: str) -> Fraction:
    """Read a radius on the [0, 1] scale, written as a fraction (`8/255`) or a decimal (`0.03`).

    Raises:
        UsageError: not a number of that form, or not in [0, 1).
    """
    if not _FORM.fullmatch(text):
        raise UsageError(f"--eps '{text}' is not a radius. Expected a fraction such as 8/255 or a decimal such as 0.03.")
    value = Fraction(text)
    if value >= 1:
        raise UsageError(
            f"--eps {text} does not fit images in [0, 1]. Did you mean {text}/255?"
            if text.isdigit() and value <= 255
            else f"--eps {text} is not below 1."
        )
    return value


def slug(eps: Fraction) -> str:
    """A file-name form of a radius: 8/255 -> `8-255`."""
    return f"{eps.numerator}-{eps.denominator}"
