"""Training objectives: a function (network, images, labels, recipe, generator) -> loss, in one table.

The network is in train mode when called; adversarial examples are made within the objective.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.training.recipe import Recipe

Objective = Callable[[nn.Module, Tensor, Tensor, Recipe, torch.Generator], Tensor]


def cross_entropy(network: nn.Module, x: Tensor, y: Tensor, recipe: Recipe) -> Tensor:
    """Mean cross-entropy of images (n, c, h, w) with labels (n,), under bf16 autocast where the recipe says so."""
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16):
        return F.cross_entropy(network(x), y, label_smoothing=recipe.label_smoothing)


def standard(network: nn.Module, x: Tensor, y: Tensor, recipe: Recipe, _: torch.Generator) -> Tensor:
    """Plain empirical risk."""
    return cross_entropy(network, x, y, recipe)


def n_fgsm(network: nn.Module, x: Tensor, y: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Noise-FGSM: one signed step of size eps from uniform noise of radius 2 eps, not clipped to the ball.

    Source: de Jorge et al., "Make Some Noise: Reliable and Efficient Single-Step Adversarial Training", NeurIPS 2022, equation 6.
    """
    eps = recipe.eps / 255
    noise = (torch.rand(x.shape, generator=generator) * 2 - 1).to(memory_format=torch.channels_last) * (2 * eps)
    start = (x + noise).requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(network, start, y, recipe), start)
    return cross_entropy(network, (start.detach() + eps * gradient.sign()).clamp(0, 1), y, recipe)


def pgd_at(network: nn.Module, x: Tensor, y: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """PGD adversarial training: `steps` signed steps from a random start, made in eval mode.

    A step is eps/4, or 1.25 eps/steps where the steps are so few that eps/4 could not cross the ball.

    Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018, equation 2.1.
    """
    eps = recipe.eps / 255
    noise = (torch.rand(x.shape, generator=generator) * 2 - 1).to(memory_format=torch.channels_last) * eps
    step = eps * max(0.25, 1.25 / recipe.steps)
    network.eval()
    worst = (x + noise).clamp(0, 1)
    for _ in range(recipe.steps):
        worst.requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(network, worst, y, recipe), worst)
        worst = (worst.detach() + step * gradient.sign()).clamp(x - eps, x + eps).clamp(0, 1)
    network.train()
    return cross_entropy(network, worst, y, recipe)


OBJECTIVES: dict[str, Objective] = {"standard": standard, "n-fgsm": n_fgsm, "pgd-at": pgd_at}
