"""The `Dataset` type and the one place where uint8 images become float tensors."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Dataset:
    """Labelled images.

    Attributes:
        name: what the record calls it.
        images: uint8, shape (n, h, w, c), c = 1 or 3.
        labels: int64, shape (n,), each in [0, classes).
        class_names: one name per class, empty where unknown.

    Raises:
        UsageError: another dtype or shape, no image at all, or a negative label.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...] = ()
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
            raise UsageError(f"{self.name}: images are {images.dtype} {images.shape}; expected uint8 (n, height, width, 1 or 3)")
        if len(images) == 0:
            raise UsageError(f"{self.name}: holds no image")
        if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
            raise UsageError(f"{self.name}: labels are {labels.dtype} {labels.shape}; expected integers ({len(images)},)")
        if labels.min() < 0:
            raise UsageError(f"{self.name}: label {labels.min()} at index {labels.argmin()} is negative")
        object.__setattr__(self, "labels", labels.astype(np.int64))
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
        return Dataset(self.name, self.images[index], self.labels[index], self.class_names)


def to_bytes(images: Tensor) -> NDArray[np.uint8]:
    """float32 (n, c, h, w) in [0, 1] -> uint8 (n, h, w, c), the nearest."""
    import torch

    levels = (images.detach() * 255).round().clamp(0, 255).to(torch.uint8)
    found: NDArray[np.uint8] = levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return found


def to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """uint8 (n, h, w, c) -> float32 (n, c, h, w) in [0, 1], the division every engine's worker makes too."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float().div(255)
