"""The `Dataset` type and the one place where uint8 images become float tensors."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

MOST_CLASSES = 1_000_000
SHOWN = 10  # class names in an error


class Source(Protocol):
    """Labelled images that need not be in memory: what is used of them is chosen by their labels, and only that is read."""

    @property
    def name(self) -> str:
        """What the record calls them."""
        ...

    @property
    def labels(self) -> NDArray[np.int64]:
        """Of every image, (n,); checked by `checked_labels`."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per class, empty where unknown."""
        ...

    def read(self, *parts: NDArray[np.intp]) -> list[Dataset]:
        """The images at each of these positions, in that order, with their labels. Reads through the images once."""
        ...


@dataclass(frozen=True)
class Dataset:
    """Labelled images.

    Attributes:
        name: what the record calls it.
        images: uint8, shape (n, h, w, c), c = 1 or 3.
        labels: int64, shape (n,), each in [0, classes).
        class_names: one name per class, empty where unknown.
        remarks: what a user should know of the images before believing a figure, a sentence each.
        places: int64 (n,), where each image stands in the set it was chosen from, where only some of that were read.
        set_aside: this program drew them from the data that it judges on, to calibrate with.

    Raises:
        UsageError: another dtype or shape, no image at all, or a negative label.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    places: NDArray[np.int64] | None = None
    set_aside: bool = False
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
            raise UsageError(f"{self.name}: images are {images.dtype} {images.shape}; expected uint8 (n, height, width, 1 or 3)")
        if len(images) == 0:
            raise UsageError(f"{self.name}: holds no image")
        object.__setattr__(self, "labels", checked_labels(self.name, labels, len(images)))
        digest = hashlib.sha256(str(images.shape).encode())
        digest.update(np.ascontiguousarray(images).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        object.__setattr__(self, "sha256", digest.hexdigest())

    def __len__(self) -> int:
        return len(self.images)

    @property
    def classes(self) -> int:
        """Number of classes: that of `class_names`, else the largest label plus one."""
        return len(self.class_names) or int(self.labels.max()) + 1

    def subset(self, index: NDArray[np.intp]) -> Dataset:
        """The images at `index`, in that order, under the same name."""
        return replace(self, images=self.images[index], labels=self.labels[index], places=None)

    def read(self, *parts: NDArray[np.intp]) -> list[Dataset]:
        """As `Source` has it."""
        return [self.subset(part) for part in parts]

    def place(self, index: NDArray[np.intp]) -> NDArray[np.int64]:
        """Where the images at `index` stand in the whole set: `index` itself where all of it is here."""
        return index.astype(np.int64) if self.places is None else self.places[index]


def check_label_form(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], n: int) -> None:
    """Raise UsageError unless labels of that dtype and shape are integers, one for each of `n` images."""
    if shape != (n,) or dtype.kind not in "iu":
        raise UsageError(f"{name}: labels are {dtype} {shape}; expected integers ({n},){_instead(dtype, shape, n)}")


def _instead(dtype: np.dtype[Any], shape: tuple[int, ...], n: int) -> str:
    """How labels of another form become integers, where there is one way."""
    if shape in ((n, 1), (1, n)):
        return ": labels.ravel()"
    if len(shape) == 2 and shape[0] == n:
        return ". Are they one-hot? Then labels.argmax(1)"
    return ": labels.astype('int64')" if shape == (n,) and dtype.kind in "fb" else ""


def checked_labels(name: str, labels: NDArray[Any], n: int) -> NDArray[np.int64]:
    """The labels of `n` images as int64.

    Raises:
        UsageError: another number, no integers, or one that no class has.
    """
    check_label_form(name, labels.dtype, labels.shape, n)
    if n and labels.min() < 0:
        raise UsageError(f"{name}: label {labels.min()} at index {labels.argmin()} is negative")
    if n and labels.max() > MOST_CLASSES:
        raise UsageError(f"{name}: label {labels.max()} at index {labels.argmax()} is no class; expected 0 to {MOST_CLASSES:,} at most")
    return labels.astype(np.int64)


def check_numbering(name: str, names: Sequence[str], other: str, others: Sequence[str]) -> None:
    """Two lists of class names, each in the order of its labels, must give a name that both have one number. Capitals make no difference;
    a name that a list has twice tells nothing.

    Raises:
        UsageError: they do not; `name` and `other` say whose they are.
    """
    mine, theirs = _numbers(names), _numbers(others)
    for key, number in mine.items():
        if (elsewhere := theirs.get(key, number)) != number:
            raise UsageError(
                f"{name}: class {number} is '{names[number]}', which is class {elsewhere} of {other}: the two number their classes "
                f"otherwise, and figures would be of wrong labels. Number the labels as {other} does ({_some(others)}); of a folder, name "
                "the class folders so that they sort in that order (00, 01 …)."
            )


def _numbers(names: Sequence[str]) -> dict[str, int]:
    count = Counter(map(str.casefold, names))
    return {key: number for number, name in enumerate(names) if count[key := name.casefold()] == 1}


def _some(names: Sequence[str]) -> str:
    return ", ".join(f"{number} {name}" for number, name in enumerate(names[:SHOWN])) + (", …" if len(names) > SHOWN else "")


def to_bytes(images: Tensor) -> NDArray[np.uint8]:
    """float32 (n, c, h, w) in [0, 1] -> uint8 (n, h, w, c), the nearest."""
    import torch

    levels = images.detach().mul(255).round_().clamp_(0, 255).to(torch.uint8)
    found: NDArray[np.uint8] = levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return found


def to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """uint8 (n, h, w, c) -> float32 (n, c, h, w) in [0, 1], the division every engine's worker makes too."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float().div(255)
