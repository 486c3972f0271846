"""Random-sign noise: what a perturbation of that size does without an adversary (source S0)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.attacks.gradient import held, seeded
from harness.attacks.keeper import Keeper


def noise(module: nn.Module, images: Tensor, labels: Tensor, eps: float, seed: int, *, steps: int) -> Tensor:
    """Every pixel moved by +eps or -eps at random, `steps` draws; per image the draw with the smallest margin."""
    keeper = Keeper(module, images, labels)
    with held(module), seeded(seed), torch.no_grad():
        for _ in range(steps):
            keeper((images + eps * torch.randn_like(images).sign()).clamp(0, 1))
    return keeper.best
