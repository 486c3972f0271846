"""The Square attack (Andriushchenko et al., ECCV 2020) through `pyautoattack`: it asks for logits and takes no gradient."""

from __future__ import annotations

import torch
from pyautoattack.square import SquareAttack
from torch import Tensor, nn

from harness.attacks.gradient import held, seeded


def square(module: nn.Module, images: Tensor, labels: Tensor, eps: float, seed: int, *, steps: int) -> Tensor:
    """The images that fool after at most `steps` queries each; the clean image where none did."""
    with held(module), seeded(seed), torch.no_grad():
        attack = SquareAttack(module, norm="Linf", n_queries=steps, eps=eps, seed=seed, device=images.device)
        found: Tensor = attack.perturb(images, labels)
    return found
