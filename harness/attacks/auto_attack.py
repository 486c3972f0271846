"""Auto-PGD (Croce and Hein, ICML 2020) through `pyautoattack`.

Its `APGDAttack` is called directly, not `AutoAttack(...).run_standard_evaluation`: the latter keeps the last iterate that
fools, leaves the image clean where none does, and its step-size schedule does not follow a changed number of iterations.
"""

from __future__ import annotations

import logging

import torch
from pyautoattack.autopgd_base import APGDAttack
from torch import Tensor, nn

from harness.attacks.gradient import held, seeded
from harness.attacks.keeper import Keeper, margins

_LOG = logging.getLogger(__name__)
_LOG.addHandler(logging.NullHandler())  # zero gradients are reported by the record's zero_gradient_share


def apgd_ce(module: nn.Module, images: Tensor, labels: Tensor, eps: float, seed: int, *, steps: int) -> Tensor:
    """Auto-PGD on the cross-entropy."""
    return _run("ce", module, images, labels, eps, seed, steps)


def apgd_dlr(module: nn.Module, images: Tensor, labels: Tensor, eps: float, seed: int, *, steps: int) -> Tensor:
    """Auto-PGD on the difference-of-logits ratio; on the plain margin below the three classes that the ratio needs."""
    return _run("dlr", module, images, labels, eps, seed, steps)


def _run(loss: str, module: nn.Module, images: Tensor, labels: Tensor, eps: float, seed: int, steps: int) -> Tensor:
    keeper = Keeper(module, images, labels)
    with held(module), seeded(seed):
        attack = APGDAttack(keeper, n_iter=steps, eps=eps, loss=loss, seed=seed, logger=_LOG)
        with torch.no_grad():
            classes = keeper(images).shape[1]
        if classes < 3:
            attack.dlr_loss = lambda logits, y: -margins(logits, y)
        attack.perturb(images, labels, best_loss=True)  # one run over every image; the keeper saw each iterate
    return keeper.best
