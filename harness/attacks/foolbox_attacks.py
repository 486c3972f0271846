"""Attacks through Foolbox (Rauber et al., 2020)."""

from __future__ import annotations

import torch
from foolbox.attacks.basic_iterative_method import LinfBasicIterativeAttack
from foolbox.attacks.carlini_wagner import L2CarliniWagnerAttack
from foolbox.attacks.fast_gradient_method import LinfFastGradientAttack
from foolbox.attacks.gradient_descent_base import LinfBaseGradientDescent
from foolbox.attacks.projected_gradient_descent import LinfProjectedGradientDescentAttack
from foolbox.models.pytorch import PyTorchModel
from torch import Tensor, nn

from harness.attacks.gradient import held, seeded
from harness.attacks.keeper import Keeper


def _run(
    attack: LinfBaseGradientDescent, module: nn.Module, images: Tensor, labels: Tensor, eps: float, seed: int
) -> tuple[Tensor, Keeper]:
    """Foolbox's own result (the last iterate), and the keeper that saw every iterate."""
    keeper = Keeper(module, images, labels)
    with held(module), seeded(seed):
        last: Tensor = attack.run(_model(keeper, images), images, labels, epsilon=eps)
        with torch.no_grad():
            keeper(last)  # Foolbox never looks at the result of its last step
    return last, keeper


def _model(module: nn.Module, images: Tensor) -> PyTorchModel:
    return PyTorchModel(module, bounds=(0, 1), device=images.device)


def fgsm(module: nn.Module, images: Tensor, labels: Tensor, eps: float, seed: int, *, steps: int) -> Tensor:
    """FGSM (Goodfellow et al., 2015). `steps` is always 1."""
    return _run(LinfFastGradientAttack(), module, images, labels, eps, seed)[1].best


def bim(module: nn.Module, images: Tensor, labels: Tensor, eps: float, seed: int, *, steps: int) -> Tensor:
    """BIM (Kurakin et al., 2017), steps of eps/5."""
    return _run(LinfBasicIterativeAttack(rel_stepsize=0.2, steps=steps), module, images, labels, eps, seed)[1].best


def pgd(module: nn.Module, images: Tensor, labels: Tensor, eps: float, seed: int, *, steps: int) -> Tensor:
    """PGD (Madry et al., 2018), random start, steps of eps/4."""
    return _run(LinfProjectedGradientDescentAttack(rel_stepsize=0.25, steps=steps), module, images, labels, eps, seed)[1].best


def fb_pgd(module: nn.Module, images: Tensor, labels: Tensor, eps: float, seed: int, *, steps: int) -> Tensor:
    """PGD as Foolbox ships it, and its last iterate: `FB_pgd_at` is the benchmarking paper's name for it. Not an attack to rely on."""
    return _run(LinfProjectedGradientDescentAttack(steps=steps), module, images, labels, eps, seed)[0]


def cw_l2(module: nn.Module, images: Tensor, labels: Tensor, eps: float, seed: int, *, steps: int) -> Tensor:
    """C&W (Carlini and Wagner, 2017): the nearest image found that fools, the clean image where none was. `eps` is ignored.

    The library's defaults (9 searches from c = 0.001, 10,000 steps of 0.01) take hours on a CPU.
    """
    attack = L2CarliniWagnerAttack(binary_search_steps=5, steps=steps, stepsize=0.02, initial_const=1.0)
    with held(module), seeded(seed):
        nearest: Tensor = attack.run(_model(module, images), images, labels)  # not `attack(…)`, which shows its result to the module
    # Where nothing fooled, Foolbox returns an image of zeros, and would call it a success if black is of another class. Its iterates
    # go through a tanh and stay above 0.
    found = nearest.flatten(1).any(1)
    return torch.where(found.view(-1, 1, 1, 1), nearest, images)
