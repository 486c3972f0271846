"""Stratified subsets, and the calibration slice of data that brings none."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness.data.dataset import Dataset, Source
from harness.errors import UsageError

CALIBRATION = 512
SHARED = 0.001  # of the test images may be training images too
CALIBRATION_SHARE = 5  # of user data, one image in this many is set aside

Choose = Callable[[NDArray[np.int64]], NDArray[np.intp]]
"""From the labels of all images to the positions of those that are wanted."""


def interleave(labels: NDArray[np.int64], seed: int) -> NDArray[np.intp]:
    """Order images so that every prefix has nearly the class shares of the whole; balanced classes come round-robin.

    Within a class the order is random. The r-th image of a class of m images is placed at (r + offset) / m of the way.

    Args:
        labels: shape (n,).
        seed: of the random order.

    Returns:
        A permutation of 0..n-1.
    """
    rng = np.random.default_rng(seed)
    classes = np.unique(labels)
    offsets = (rng.permutation(len(classes)) + 0.5) / len(classes)
    place = np.empty(len(labels))
    for label, offset in zip(classes, offsets, strict=True):
        members = rng.permutation(np.flatnonzero(labels == label))
        place[members] = (np.arange(len(members)) + offset) / len(members)
    return np.argsort(place, kind="stable")


def stratified(labels: NDArray[np.int64], n: int, seed: int) -> NDArray[np.intp]:
    """Indices of `n` images with nearly the class shares of the whole; every prefix of them is stratified too.

    Raises:
        UsageError: n is not in 1..len(labels).
    """
    if not 1 <= n <= len(labels):
        raise UsageError(f"{n} images asked for, but the data holds {len(labels)}. Choose --samples between 1 and {len(labels)}.")
    return interleave(labels, seed)[:n]


def few(labels: NDArray[np.int64], most: int) -> NDArray[np.intp]:
    """Indices of `most` images, or of all where there are fewer, as `stratified`: the first of a folder are of its first classes."""
    return stratified(labels, min(most, len(labels)), seed=0)


def contents(images: Iterable[NDArray[np.uint8]]) -> NDArray[np.bytes_]:
    """SHA-256 of every image's pixels, shape (n,)."""
    return np.array([hashlib.sha256(np.ascontiguousarray(image).data).hexdigest() for image in images], dtype="S64")


def common(test: Dataset, training: Dataset) -> int:
    """How many images of `test` occur in `training`, pixel for pixel."""
    return int(np.isin(contents(test.images), contents(training.images)).sum())


def refuse_common(test: Dataset, training: Dataset) -> None:
    """Refuse test images that a network was trained on. One in a thousand is told and left, as published sets may share a few.

    Raises:
        UsageError: there are more.
    """
    if not (copies := common(test, training)):
        return
    found = f"{copies:,} of the {len(test):,} test images of {test.name} are in the training images {training.name} too"
    if copies > SHARED * len(test):
        raise UsageError(f"{found}: figures on them would be of images that the network was trained on. Choose others.")
    print(f"warning: {found}", file=sys.stderr)


def without_copies(calibration: Dataset, test: Dataset) -> Dataset:
    """`calibration` less every image whose pixels also occur in `test`.

    Raises:
        UsageError: nothing is left.
    """
    if calibration.images.shape[1:] != test.images.shape[1:]:
        got, expected = calibration.images.shape[1:], test.images.shape[1:]
        raise UsageError(f"{test.name}: calibration images are {got}, test images {expected} (height, width, channels); they must be alike")
    fresh = np.flatnonzero(~np.isin(contents(calibration.images), contents(test.images)))
    if len(fresh) == 0:
        raise UsageError(f"{test.name}: every calibration image is also a test image; calibration needs images of its own")
    return calibration.subset(fresh)


def whole(data: Source, choose: Choose | None = None) -> Dataset:
    """All images of `data`, or those at the positions that `choose` picks by the labels; `Dataset.places` keeps those."""
    if choose is None:
        return data if isinstance(data, Dataset) else data.read(np.arange(len(data.labels)))[0]
    wanted = choose(data.labels)
    return replace(data.read(wanted)[0], places=wanted)


def set_aside(data: Source, seed: int, choose: Choose | None = None) -> tuple[Dataset, Dataset]:
    """Split user data into (test, calibration): a seeded stratified slice of min(512, n // 5) images calibrates.

    The two share no image, not even by content: a calibration image that the test part repeats is dropped.

    Args:
        data: read once, and no more of it than is asked for.
        seed: of the slice.
        choose: from the labels of the test part to the positions in it that are wanted, all if None; `Dataset.places` keeps them.

    Raises:
        UsageError: too few images, or nothing but copies.
    """
    held = len(data.labels)
    n = min(CALIBRATION, held // CALIBRATION_SHARE)
    if n == 0:
        raise UsageError(
            f"{data.name} holds {held} images; at least {CALIBRATION_SHARE} are needed, "
            f"since one in {CALIBRATION_SHARE} is set aside to calibrate"
        )
    chosen = stratified(data.labels, n, seed)
    rest = np.setdiff1d(np.arange(held), chosen)
    wanted = None if choose is None else choose(data.labels[rest])
    test, part = data.read(rest if wanted is None else rest[wanted], chosen)
    calibration = replace(part, name=f"{data.name} (set aside, seed {seed})", set_aside=True)
    return replace(test, places=wanted), without_copies(calibration, test)
