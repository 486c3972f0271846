"""Images that are nearly those of another set: encoded anew, mirrored, brighter, with noise on them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIDE = 16  # pixels of a thumbnail, or up to twice as many
NEAR = 0.25  # of the distance to the nearest other image of one's own set
BESIDE = 1000  # images of the own set that are looked through
ROWS = 64  # at a time
GREY = np.float32(127.5)
ROUNDING = np.float32(1e-5)  # of squared lengths: float32 tells no smaller distance from none


def near_copies(images: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of `images` are all but among `others`; both uint8 (·, h, w, c). Copies to the byte are among them.

    An image is where one of `others`, as it is or mirrored, is at a quarter of the distance to the nearest other of `images` or less. Two
    samples of one distribution are as far from each other as from themselves, whatever the data are, so the measure needs no unit: of
    CIFAR-10's 10,000 test images, held against 512 of its training images, one is so near. Euclidean, of thumbnails, so that the grain of
    JPEG does not count.
    """
    if len(images) < 2:
        return np.zeros(len(images), np.bool_)
    own, foreign = _thumbnails(images), _flat(_thumbnails(others))
    beside = _flat(own[:BESIDE])
    found = np.zeros(len(own), np.bool_)
    for start in range(0, len(own), ROWS):
        rows = own[start : start + ROWS]
        nearest = np.minimum(*(_squared(_flat(way), foreign).min(axis=1) for way in (rows, rows[:, :, ::-1])))
        to_own = _squared(_flat(rows), beside)
        there = np.arange(start, min(start + ROWS, len(beside)))
        to_own[there - start, there] = np.inf
        found[start : start + ROWS] = nearest <= NEAR**2 * to_own.min(axis=1)
    return found


def _thumbnails(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Means over blocks, float32 (n, h, w, c), counted from grey; image by image, since the set may be larger than memory."""
    down, across = (max(size // SIDE, 1) for size in images.shape[1:3])
    height, width = images.shape[1] // down, images.shape[2] // across
    means = np.empty((len(images), height, width, images.shape[3]), np.float32)
    for image, mean in zip(images, means, strict=True):
        blocks = image[: height * down, : width * across].reshape(height, down, width, across, -1)
        np.subtract(blocks.mean(axis=(1, 3), dtype=np.float32), GREY, out=mean)
    return means


def _flat(images: NDArray[np.float32]) -> NDArray[np.float32]:
    return images.reshape(len(images), -1)


def _squared(rows: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared distances, (rows, others)."""
    lengths: NDArray[np.float32] = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)
    squared = lengths - 2 * rows @ others.T
    return np.where(squared > ROUNDING * lengths, squared, 0)
