"""The full CIFAR-10 (Krizhevsky, 2009), through torchvision: downloaded once, its files checked against their MD5 at every use."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import numpy as np

from devices.host.sysroot import cache_folder
from harness.data.dataset import Dataset
from harness.data.split import CALIBRATION, stratified, without_copies
from harness.errors import UsageError

TRAINING = "cifar10 (training set)"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def read(folder: Path, *, train: bool, download: bool = False) -> Dataset:
    """One half of CIFAR-10 from torchvision's folder.

    Raises:
        UsageError: it is not there, damaged, or cannot be downloaded.
    """
    from torchvision.datasets import CIFAR10

    try:
        with contextlib.redirect_stdout(sys.stderr):
            half = CIFAR10(str(folder), train=train, download=download)
    except (OSError, RuntimeError) as error:
        reason = str(getattr(error, "reason", error)).splitlines()[0]
        remedy = "Connect to the network once, or use the shipped cifar10-sample or your own .npz."
        raise UsageError(f"cannot get CIFAR-10 into {folder}: {reason}. {remedy}") from error
    return Dataset(TRAINING if train else "cifar10", half.data, np.asarray(half.targets), CLASSES)


def load(seed: int) -> tuple[Dataset, Dataset]:
    """(all test images, 512 stratified training images), downloaded into the cache folder where needed.

    Raises:
        UsageError: no network, or a damaged copy.
    """
    test, train = (read(cache_folder(), train=part, download=True) for part in (False, True))
    chosen = train.subset(stratified(train.labels, CALIBRATION, seed))
    return test, without_copies(Dataset(f"cifar10 (calibration, seed {seed})", chosen.images, chosen.labels, CLASSES), test)
