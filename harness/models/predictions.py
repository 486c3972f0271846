"""What a twin answers: logits in fp32, and the margin that every prediction is judged by."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from harness.attacks.batch_size import batch_size
from harness.data.dataset import to_tensor


def logits(module: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits, float32 (n, classes), of uint8 images (n, h, w, c), without autocast or any other shortcut."""
    batch = batch_size(module, images)
    if not len(images):
        return np.zeros((0, _classes(module, images)), np.float32)
    with torch.inference_mode():
        parts = [module(to_tensor(images[start : start + batch])).float().numpy() for start in range(0, len(images), batch)]
    return np.concatenate(parts)


def _classes(module: nn.Module, images: NDArray[np.uint8]) -> int:
    with torch.inference_mode():
        return int(module(to_tensor(np.zeros((1, *images.shape[1:]), np.uint8))).shape[1])


def margins(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """logit[y] - largest other logit, (n,): positive where the prediction is right, and finite, see `attacks.search.margins`."""
    rows, ends = np.arange(len(scores)), np.finfo(np.float32)
    others = scores.copy()
    others[rows, labels] = -np.inf
    with np.errstate(over="ignore"):
        margin = scores[rows, labels] - others.max(axis=1)
    return np.asarray(margin.clip(ends.min, ends.max), dtype=np.float32)
