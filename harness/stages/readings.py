"""What a twin would answer if the pixels were meant otherwise: the usual faults of preprocessing, tried out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.answers import Images
from harness.audit.metrics import Labels
from harness.data.dataset import to_tensor
from harness.models.normalisation import PRESETS

Read = Callable[[Tensor], Tensor]

IMAGES, FEW, BATCH = 256, 64, 32
CONTRAST = 128  # levels between the darkest and the brightest twentieth of the pixels


def of_pixels(
    module: nn.Module, images: Images, labels: Labels, predictions: Labels, *, stretched: bool = True
) -> dict[str, NDArray[np.int64]]:
    """How the pixels might be meant -> the module's predictions, (m,), on the first `IMAGES` of `images`, or on a few that show no gain.

    Args:
        images, labels, predictions: uint8 (n, h, w, c), and int (n,) each.
        stretched: as values of another range too.
    """
    x, few = to_tensor(images[:IMAGES]), slice(FEW)

    def named(x: Tensor, read: Read) -> NDArray[np.int64]:
        return torch.cat([module(read(part)).argmax(1) for part in torch.split(x, BATCH)]).numpy()

    found = {}
    with torch.inference_mode():
        for name, read in (*_rearranged(x.shape), *(_stretched(x.shape[1]) if stretched else ())):
            found[name] = named(x[few], read)
            if len(x) > FEW and np.sum(found[name] == labels[few]) > np.sum(predictions[few] == labels[few]):
                found[name] = np.concatenate([found[name], named(x[FEW:], read)])
    return found


def full_contrast(images: NDArray[np.uint8]) -> bool:
    """Whether the first `IMAGES` of `images` fill half of the range of a byte."""
    dark, bright = np.quantile(images[:IMAGES], (0.05, 0.95))
    return bool(bright - dark >= CONTRAST)


def _rearranged(shape: torch.Size) -> Iterator[tuple[str, Read]]:
    """(name, how) for float images of that shape, (n, c, h, w), in [0, 1]."""
    _, channels, height, width = shape
    if channels == 3:
        yield "the model seems to want its colours as BGR, and gets RGB", lambda x: x.flip(1)
    if height == width:
        yield "the images seem to lie on their side, rows and columns exchanged", lambda x: x.transpose(2, 3)


def _stretched(channels: int) -> Iterator[tuple[str, Read]]:
    """The same, with pixels of other ranges."""
    yield "the model seems to want pixels of 0 to 255, or divides by 255 itself (--normalize 0/0.00392157)", lambda x: 255 * x
    yield "the model seems to want pixels of -1 to 1 (--normalize 0.5/0.5)", lambda x: 2 * x - 1
    if channels != 3:
        return
    for name, values in PRESETS.items():
        mean, std = (torch.tensor(value).view(3, 1, 1) for value in values)
        yield f"the model seems to want standardised pixels (--normalize {name})", partial(_standardised, mean=mean, std=std)
        twice = f"the pixels seem to be standardised twice (the model does it itself: leave out --normalize {name})"
        yield twice, partial(_standardised, mean=-mean / std, std=1 / std)


def _standardised(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return (x - mean) / std
