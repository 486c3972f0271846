"""Attacks through Foolbox (Rauber et al., 2020)."""

from __future__ import annotations

from typing import Any

import eagerpy as ep
import torch
from foolbox.attacks.basic_iterative_method import LinfBasicIterativeAttack
from foolbox.attacks.carlini_wagner import L2CarliniWagnerAttack
from foolbox.attacks.fast_gradient_method import LinfFastGradientAttack
from foolbox.attacks.gradient_descent_base import LinfBaseGradientDescent
from foolbox.attacks.projected_gradient_descent import LinfProjectedGradientDescentAttack
from foolbox.models.pytorch import PyTorchModel
from torch import Tensor

from harness.attacks.gradient import seeded
from harness.attacks.search import NearestSearch, Search


class _FoolboxPgd(LinfProjectedGradientDescentAttack):
    """Foolbox's PGD from the search's own random start."""

    def __init__(self, search: Search, steps: int) -> None:
        super().__init__(steps=steps)
        self._search = search

    def get_random_start(self, x0: object, epsilon: float) -> Any:
        """As the search draws it, image by image."""
        return ep.astensor(self._search.start())  # type: ignore[attr-defined]


def fgsm(search: Search, *, steps: int) -> None:
    """FGSM (Goodfellow et al., 2015). `steps` is always 1."""
    _run(LinfFastGradientAttack(), search)


def bim(search: Search, *, steps: int) -> None:
    """BIM (Kurakin et al., 2017), steps of eps/5."""
    _run(LinfBasicIterativeAttack(rel_stepsize=0.2, steps=steps), search)


def fb_pgd(search: Search, *, steps: int) -> None:
    """PGD as Foolbox ships it, and its last iterate: `FB_pgd_at` is the benchmarking paper's name for it. Not an attack to rely on."""
    search.best = _run(_FoolboxPgd(search, steps), search)


def cw_l2(search: NearestSearch, *, steps: int) -> None:
    """C&W (Carlini and Wagner, 2017): looks for the nearest image that fools.

    The library's defaults (9 searches from c = 0.001, 10,000 steps of 0.01) take hours on a CPU.
    """
    attack = L2CarliniWagnerAttack(binary_search_steps=5, steps=steps, stepsize=0.02, initial_const=1.0)
    with seeded(0):
        nearest: Tensor = attack.run(_model(search), search.images, search.labels)  # not `attack(…)`, which shows its result to the module
    # Where nothing fooled, Foolbox returns an image of zeros, and would call it a success if black is of another class. Its iterates
    # go through a tanh and stay above 0.
    found = nearest.flatten(1).any(1)
    search.left = torch.where(found.view(-1, 1, 1, 1), nearest, search.images)


def _run(attack: LinfBaseGradientDescent, search: Search) -> Tensor:
    """Foolbox's own result, the last iterate; the search saw all of them."""
    last: Tensor = attack.run(_model(search), search.images, search.labels, epsilon=search.eps)
    with torch.no_grad():
        search.ask(last)  # Foolbox never looks at the result of its last step
    return last


def _model(search: Search) -> PyTorchModel:
    return PyTorchModel(search.as_module(), bounds=(0, 1), device=search.images.device)
