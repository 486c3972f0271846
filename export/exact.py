"""Numbers with which integers answer as a low-bit network does in float: steps of weights, a branch's step, biases."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.calibration import Range

Floats = NDArray[np.float32]

UINT8 = 255  # codes above the lowest one
INT8 = 127  # -128 is left out
WHOLE = 1e-3  # of a code: what float32 and a folded batch norm leave of a whole one


def weight_steps(weight: Floats, largest: int) -> Floats:
    """One step for each output, float32 (outputs,), such that weight / step are whole numbers wherever that is possible.

    The largest magnitude of an output becomes a code n <= `largest`. Where its weights are whole multiples of something, so they are for
    some n in the upper half of the codes: a multiple of a smaller n that fits, fits too. Of others n is `largest`.

    Args:
        weight: (outputs, …).
        largest: code that a weight may have, INT8 or less.
    """
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    tops = np.abs(rows).max(axis=1)
    shares = rows / np.where(tops > 0, tops, 1)[:, None]
    counts = np.full(len(rows), largest)
    left = np.ones(len(rows), bool)
    for count in range(largest, largest // 2, -1):
        tried = shares * count
        fits = left & (np.abs(tried - np.rint(tried)).max(axis=1) < WHOLE)
        counts[fits] = count
        left &= ~fits
    steps: Floats = (np.where(tops > 0, tops, 1) / counts).astype(np.float32)
    return steps


def codes(weight: Floats, steps: Floats) -> NDArray[np.int64]:
    """Whole multiples of its output's step nearest to each weight, (outputs, …)."""
    found: NDArray[np.int64] = np.rint(weight / steps.reshape(-1, *[1] * (weight.ndim - 1)).astype(np.float64)).astype(np.int64)
    return found


def branch_range(levels: int) -> Range:
    """The range of a residual branch b of which clip(b + k / levels, 0, 1) is rounded to `levels`: 8 bits of it cost nothing.

    Beyond [-1, 1] the sum is clipped whatever k is. The step is an odd part of a level's, 1 / (m levels): the borders between levels lie in
    the middle between two of its codes, so that rounding to codes first takes nothing over a border.

    Args:
        levels: from 1 to `INT8`.
    """
    parts = INT8 // levels
    step = 1 / (levels * (parts - (parts % 2 == 0)))
    return np.float32(-INT8 * step), np.float32((UINT8 - INT8) * step)


def settled_biases(bias: Floats, steps: NDArray[np.float64], units: NDArray[np.int64], borders: NDArray[np.float64]) -> Floats:
    """Biases on the grid of the int32 sums that leave every sum on its own side of every border, or as many as possible; (outputs,).

    A sum without bias is n * unit * step for a whole n. Rounded to the nearest step alone, as integer kernels have it, a bias takes some
    sums over a border; of the multiples within one unit the nearest that takes the fewest is chosen.

    Args:
        bias: (outputs,).
        steps: of the sums: step of the input times that of the weights, (outputs,).
        units: greatest common divisor of each output's codes, (outputs,).
        borders: between two levels of the result, (borders,).
    """
    settled = np.empty_like(bias)
    for place, (value, step, unit) in enumerate(zip(bias.astype(np.float64), steps, np.maximum(units, 1), strict=True)):
        offsets = np.arange(-unit, unit + 1)
        tried = np.rint(value / step) + offsets[np.argsort(np.abs(offsets), kind="stable")]
        first = np.ceil((borders - value) / (unit * step))  # the least n beyond each border
        moved = (np.ceil((borders - tried[:, None] * step) / (unit * step)) != first).sum(axis=1)
        settled[place] = tried[moved.argmin()] * step
    return settled
