"""A small trained network, whose robustness is not known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.data.dataset import Dataset, to_tensor


@pytest.fixture(scope="session")
def trained() -> tuple[nn.Module, Dataset]:
    """A convolutional network with batch norms, trained on noisy patterns until it is right on most, and 160 test images."""
    generator = np.random.default_rng(0)
    patterns = F.interpolate(torch.from_numpy(generator.normal(size=(4, 3, 4, 4))), size=12, mode="bilinear").permute(0, 2, 3, 1).numpy()

    def draw(n: int) -> Dataset:
        labels = generator.integers(0, 4, n)
        noisy = 0.5 + 0.05 * patterns[labels] + 0.13 * generator.normal(size=(n, 12, 12, 3))
        return Dataset("patterns", (255 * noisy.clip(0, 1)).astype(np.uint8), labels)

    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(144, 4)),
    )
    data = draw(512)
    x, y = to_tensor(data.images), torch.from_numpy(data.labels)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(40):
        rows = slice(step * 128 % 512, step * 128 % 512 + 128)
        noisy = (x[rows] + 8 / 255 * torch.randn_like(x[rows]).sign()).clamp(0, 1)
        loss = F.cross_entropy(model(noisy), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval(), draw(160)
