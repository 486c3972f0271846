"""From what an attack returns to bytes inside the exact ball. Integers only: levels of 1/255."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial

import numpy as np
from numpy.typing import NDArray

from harness.errors import UntrustedError, UsageError
from harness.stack import ImageStack, pieces

# A minimum-norm example has only just crossed the boundary, and rounding may pull it back or leave room: the points of the line from the
# clean image through it that are tried, as shares of the way.
STRETCHES = (1.0, 0.5, 0.7, 0.8, 0.9, 0.95, 1.02, 1.05, 1.1, 1.2, 1.4, 1.7, 2.0)
CHUNK_BYTES = 1 << 18  # of images, compared at a time
Rounding = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_TINY = 1e-3  # of a level: float32 noise that rounding away from the clean image must not blow up to a whole one


def ball_levels(eps: Fraction) -> int:
    """The radius in whole levels: the largest k with k/255 <= eps.

    Raises:
        UsageError: a radius above 0 that holds no other uint8 image.
    """
    levels = int(eps * 255)
    if eps > 0 and levels == 0:
        raise UsageError(f"eps {eps} is smaller than one level of an 8-bit image. Expected 0 or at least 1/255.")
    return levels


def candidates(clean: NDArray[np.uint8], adversarial: NDArray[np.float32], levels: int | None) -> Iterator[NDArray[np.uint8]]:
    """uint8 images near `adversarial`, best guess first; with `levels`, inside that L-inf ball around `clean`.

    Args:
        clean: (n, h, w, c).
        adversarial: the attack's images, same shape, in [0, 1].
        levels: radius in levels, None for a minimum-norm attack.
    """
    roundings: list[Rounding] = [np.rint, _outwards] if levels is not None else [partial(_stretched, by=by) for by in STRETCHES]
    for rounded in roundings:
        found = np.empty_like(clean)
        for piece in pieces(clean, CHUNK_BYTES):
            delta = adversarial[piece].astype(np.float64) * 255 - clean[piece]
            found[piece] = _place(clean[piece], rounded(delta), levels)
        yield found


def _stretched(delta: NDArray[np.float64], by: float) -> NDArray[np.float64]:
    return np.rint(by * delta)


def _outwards(delta: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sign(delta) * np.ceil(np.abs(delta) - _TINY))


def _place(clean: NDArray[np.uint8], delta: NDArray[np.float64], levels: int | None) -> NDArray[np.uint8]:
    limit = 255 if levels is None else levels
    moved = clean.astype(np.int16) + np.clip(delta, -limit, limit).astype(np.int16)
    return np.clip(moved, 0, 255).astype(np.uint8)


def distance_levels(clean: NDArray[np.uint8], images: NDArray[np.uint8]) -> NDArray[np.int16]:
    """|x' - x| in levels, entry by entry."""
    return np.abs(images.astype(np.int16) - clean.astype(np.int16))


def distance_l2(clean: NDArray[np.uint8], images: ImageStack) -> NDArray[np.float64]:
    """|x' - x| in the L2 norm, (n,), of pixels in [0, 1]."""
    return distances(clean, images)[1]


def distances(
    clean: NDArray[np.uint8], images: ImageStack, index: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """L-inf in levels and L2 of pixels in [0, 1], each (n,), between `images` and those of `clean` at `index` (all if None).

    A few images at a time: whole sets as wider numbers would take several times the memory of the images.
    """
    linf, l2 = np.zeros(len(images), np.int16), np.zeros(len(images))
    if clean is images and index is None:
        return linf, l2
    for piece in pieces(images, CHUNK_BYTES):
        there = images[piece]
        levels = distance_levels(clean[piece if index is None else index[piece]], there).reshape(len(there), -1)
        linf[piece] = levels.max(axis=1, initial=0)
        l2[piece] = np.linalg.norm(levels.astype(np.float64), axis=1) / 255
    return linf, l2


def check_ball(clean: NDArray[np.uint8], images: NDArray[np.uint8], levels: int | None) -> None:
    """Refuse images that left the ball.

    Raises:
        UntrustedError: some entry is more than `levels` away.
    """
    if levels is None:
        return
    worst = max((int(distance_levels(clean[piece], images[piece]).max()) for piece in pieces(images, CHUNK_BYTES)), default=0)
    if worst > levels:
        raise UntrustedError(f"an adversarial image left its ball: {worst}/255 from the clean image, expected at most {levels}/255")
