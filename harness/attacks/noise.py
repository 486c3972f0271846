"""Random-sign noise: what a perturbation of that size does without an adversary (source S0)."""

from __future__ import annotations

import torch

from harness.attacks.search import Search


def noise(search: Search, *, steps: int) -> None:
    """Every pixel moved by +eps or -eps at random, `steps` draws; per image the draw with the smallest margin."""
    with torch.no_grad():
        for _ in range(steps):
            signs = torch.sign(search.start() - search.images)
            search.ask((search.images + search.eps * torch.where(signs == 0, 1.0, signs)).clamp(0, 1))
