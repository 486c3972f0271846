"""What a twin would answer if the pixels were meant otherwise: the usual faults of preprocessing, tried out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.data.dataset import to_tensor
from harness.models.normalisation import PRESETS

IMAGES = 128


def of_pixels(module: nn.Module, images: NDArray[np.uint8]) -> dict[str, NDArray[np.int64]]:
    """How the pixels might be meant -> the module's predictions, (n,), on the first `IMAGES` of `images`, uint8 (n, h, w, c)."""
    with torch.inference_mode():
        return {name: module(changed).argmax(1).numpy() for name, changed in _changed(to_tensor(images[:IMAGES]))}


def _changed(x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """(name, images) of float images (n, c, h, w) in [0, 1]."""
    yield "the model seems to want pixels of 0 to 255, or divides by 255 itself (--normalize 0/0.00392157)", 255 * x
    yield "the model seems to want pixels of -1 to 1 (--normalize 0.5/0.5)", 2 * x - 1
    if x.shape[1] != 3:
        return
    yield "the model seems to want its colours as BGR, and gets RGB", x.flip(1)
    for name, values in PRESETS.items():
        mean, std = (torch.tensor(value).view(3, 1, 1) for value in values)
        yield f"the model seems to want standardised pixels (--normalize {name})", (x - mean) / std
        yield f"the pixels seem to be standardised twice (the model does it itself: leave out --normalize {name})", x * std + mean
