"""A linear classifier, whose robustness is known exactly."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from harness.data.dataset import Dataset, to_tensor

SIDE = 4


def linear_model(classes: int, seed: int = 0, side: int = SIDE) -> nn.Module:
    torch.manual_seed(seed)
    layer = nn.Linear(3 * side * side, classes)
    nn.init.normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    with torch.no_grad():
        layer.bias -= layer(torch.full((1, 3 * side * side), 0.5))[0]
    return nn.Sequential(nn.Flatten(), layer).eval()


def linear_data(model: nn.Module, n: int = 120, low: int = 64, high: int = 192, wrong: int = 10, side: int = SIDE) -> Dataset:
    """Images far from 0 and 255, labelled as the model sees them; the first `wrong` are labelled otherwise."""
    images = np.random.default_rng(1).integers(low, high, (n, side, side, 3), dtype=np.uint8)
    with torch.no_grad():
        logits = model(to_tensor(images))
    labels = logits.argmax(1).numpy()
    labels[:wrong] = (labels[:wrong] + 1) % logits.shape[1]
    return Dataset("linear", images, labels)


def differences(model: nn.Module, labels: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """w_y - w_j and b_y - b_j for every image and class j: (n, classes, d), (n, classes)."""
    weight = model[1].weight.detach().double().numpy()
    bias = model[1].bias.detach().double().numpy()
    return weight[labels][:, None] - weight[None], bias[labels][:, None] - bias[None]


def smallest_margin(model: nn.Module, data: Dataset, levels: int) -> NDArray[np.float64]:
    """min over the L-inf ball of the margin, exactly: for class j it is reached at x - eps * sign(w_y - w_j), clipped to [0, 255]."""
    w, b = differences(model, data.labels)
    x = data.images.transpose(0, 3, 1, 2).reshape(len(data), 1, -1).astype(np.int64)
    worst = np.clip(x - levels * np.sign(w).astype(np.int64), 0, 255) / 255
    margin = (w * worst).sum(2) + b
    margin[np.arange(len(data)), data.labels] = np.inf
    return margin.min(1)


def without_ties(model: nn.Module, data: Dataset, levels: int) -> Dataset:
    """Leaves out images whose smallest margin is too near 0 for float32 to tell."""
    return data.subset(np.flatnonzero(np.abs(smallest_margin(model, data, levels)) > 0.01))
