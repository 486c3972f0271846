"""What `--rate` may say: a sparsity (`8x`, `0.9`, `90%`) or bit widths (`w4a4`)."""

from __future__ import annotations

import re

from harness.errors import UsageError

FULL = 32  # bits of a weight or an activation left in float
CHOICES = (*range(1, 9), FULL)


def sparsity(text: str) -> float:
    """The share of zeros that `text` asks for, in [0, 1).

    Raises:
        UsageError: not a rate, or out of range.
    """
    try:
        value = 1 - 1 / float(text[:-1]) if text.endswith("x") else float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"--rate {text}: expected a compression ratio such as 8x, or a share of zeros such as 0.9 or 90%") from error
    if not 0 <= value < 1:
        raise UsageError(f"--rate {text} asks for {value:g} of the weights to be zero; expected 0 to less than 1 (1x or more)")
    return round(value, 12)  # 99.9% and 0.999 are the same rate


def half(text: str) -> float:
    """The sparsity of 2:4, which has no other.

    Raises:
        UsageError: anything but one half.
    """
    if (value := sparsity(text)) != 0.5:
        raise UsageError(f"--rate {text}: 2:4 sparsity has one rate; the nearest is 0.5 (2x), not {value:g}")
    return value


def bits(text: str) -> tuple[int, int]:
    """(bits of weights, bits of activations).

    Raises:
        UsageError: not of the form w4a4, or bits that are neither 1 to 8 nor 32.
    """
    found = re.fullmatch(r"w(\d+)a(\d+)", text)
    if not found:
        raise UsageError(f"--rate {text}: expected bits of weights and activations such as w4a4 or w8a32")
    weights, activations = int(found[1]), int(found[2])
    for count in (weights, activations):
        if count not in CHOICES:
            nearest = min(CHOICES, key=lambda choice: abs(choice - count))
            raise UsageError(f"--rate {text}: {count} bits; expected 1 to 8, or {FULL} for float (the nearest is {nearest})")
    return weights, activations


def no_rate(text: str) -> None:
    """For methods whose result has no rate of its own.

    Raises:
        UsageError: one was given.
    """
    if text:
        raise UsageError(f"--rate {text}: this method has no rate")
