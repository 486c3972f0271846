"""What is odd about images and labels, though they fit: what makes a figure wrong without an error. A sentence each."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.data.dataset import Dataset
from harness.data.split import contents

IMAGES = 5  # of each class: one is then missing by chance in less than 1 % of sets
COPIES = 0.01  # of the images, below which they are not worth a word
DARK = 31  # the brightest byte of images of 12 bits taken for 16 is 15, of those in [0, 1] it is 1


def remarks_of(test: Dataset, classes: int | None) -> list[str]:
    """About the images that were read, for a model of `classes` logits (None: not known)."""
    found = []
    brightest = int(test.images.max())
    if brightest <= DARK:
        found.append(
            f"the brightest value of all {len(test):,} images is {brightest} of 255: were they scaled to 0..255, and white to 255?"
        )
    copies = len(test) - len(np.unique(contents(test.images)))
    if copies > COPIES * len(test):
        found.append(f"{copies:,} of {len(test):,} test images are copies of others, byte for byte: every interval counts them as evidence")
    last = int(test.labels.max())
    enough = classes is not None and len(test) >= IMAGES * classes  # of fewer, the last class may be missing by chance
    if enough and not test.class_names and test.places is None and classes == last + 2:
        found.append(
            f"labels end at {last}, the model has {classes} classes, one more: if its first output is a background class, save labels + 1"
        )
    return found


def label_remarks(labels: NDArray[np.int64]) -> list[str]:
    """About all labels of a set, (n,)."""
    if len(labels) == 0 or labels.min() == 0 or len(labels) < IMAGES * len(np.unique(labels)):
        return []
    return [f"no image has label 0, labels go from {labels.min()} to {labels.max()}: if the model counts classes from 0, save labels - 1"]


def order_remarks(names: Sequence[str]) -> list[str]:
    """About classes that are numbered in the order of their names as text."""
    if all(name.isascii() and name.isdigit() for name in names):
        wrong = [(name, label) for label, name in enumerate(names) if int(name) != label]
        if not wrong:
            return []
        name, label = wrong[0]
        why = "" if sorted(names, key=int) == list(names) else ": names are sorted as text, 10 before 2"
        return [f"the folder '{name}' is class {label}{why}. If the model counts otherwise, rename the folders (00, 01, 02 …)"]
    natural = sorted(names, key=_numbers_as_numbers)
    if natural == list(names):
        return []
    label = next(label for label, name in enumerate(names) if name != natural[label])
    return [
        f"class {label} is '{names[label]}', by numbers it would be '{natural[label]}': names are sorted as text, 10 before 2. "
        "If the model counts otherwise, rename the folders (01, 02 … 10)"
    ]


def _numbers_as_numbers(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"([0-9]{1,18})", name) if part]
