"""The small world of the self-test: pictures of ten classes, made of one seed, and a network that was trained against an adversary on them.

A picture is a class's own colour pattern over another smooth pattern and noise, 16 x 16 pixels. Colours, rows and columns are no equals:
what mixes them up costs accuracy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.data.dataset import Dataset

SIDE, CLASSES = 16, 10
NAMES = tuple(f"pattern-{number}" for number in range(CLASSES))
TRAIN, TEST, CALIBRATION = "train", "test", "calibration"
_SEEDS = {TRAIN: 1, TEST: 2, CALIBRATION: 3}


def pictures(which: str, n: int) -> Dataset:
    """`n` pictures of `train`, `test` or `calibration`, as many of each class as of the others."""
    draw = np.random.default_rng(_SEEDS[which])
    labels = np.arange(n) % CLASSES
    signal = _patterns(np.random.default_rng(0), CLASSES, 5)[labels]
    strength = draw.uniform(0.03, 0.11, (n, 1, 1, 1))
    mixed = 0.5 + strength * signal + 0.11 * _patterns(draw, n, 4) + draw.normal(0, 0.03, (n, SIDE, SIDE, 3))
    bright = mixed * np.array([1.1, 0.9, 0.6]) + np.array([0.05, -0.05, 0.0])
    return Dataset(f"selftest-{which}", _levels(bright), labels, NAMES)


def _levels(images: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Images in [0, 1] as bytes."""
    levels: NDArray[np.uint8] = np.rint(255 * images.clip(0, 1)).astype(np.uint8)
    return levels


def _patterns(draw: np.random.Generator, n: int, points: int) -> NDArray[np.float64]:
    """Smooth colour patterns, float64 (n, SIDE, SIDE, 3): random values on a coarse grid, linear between them."""
    coarse = draw.normal(0, 1, (n, points, points, 3))
    at = np.linspace(0, points - 1, SIDE)
    low = np.minimum(at.astype(int), points - 2)
    weights = np.zeros((SIDE, points))
    weights[np.arange(SIDE), low], weights[np.arange(SIDE), low + 1] = 1 - (at - low), at - low
    smooth: NDArray[np.float64] = np.einsum("iy,jx,nyxc->nijc", weights, weights, coarse)
    return smooth
