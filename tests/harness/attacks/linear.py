"""A linear classifier, whose robustness is known exactly."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from harness.data.dataset import Dataset, to_tensor

SIDE = 4


def linear_model(classes: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layer = nn.Linear(3 * SIDE * SIDE, classes)
    nn.init.normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    with torch.no_grad():
        layer.bias -= layer(torch.full((1, 3 * SIDE * SIDE), 0.5))[0]
    return nn.Sequential(nn.Flatten(), layer).eval()


def linear_data(model: nn.Module, n: int = 120, low: int = 64, high: int = 192, wrong: int = 10) -> Dataset:
    """Images far from 0 and 255, labelled as the model sees them; the first `wrong` are labelled otherwise."""
    images = np.random.default_rng(1).integers(low, high, (n, SIDE, SIDE, 3), dtype=np.uint8)
    with torch.no_grad():
        logits = model(to_tensor(images))
    labels = logits.argmax(1).numpy()
    labels[:wrong] = (labels[:wrong] + 1) % logits.shape[1]
    return Dataset("linear", images, labels)
