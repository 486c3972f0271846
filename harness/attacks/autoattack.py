"""AutoAttack (Croce and Hein, ICML 2020), whole, through `pyautoattack`: the field's measure, for whoever wants its own figure.

The standard version: Auto-PGD on the cross-entropy (5 restarts), targeted Auto-PGD and targeted FAB towards 9 classes, 100 steps each, and
Square with 5,000 queries, each on what the attacks before it left.
"""

from __future__ import annotations

import logging

import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

from harness.attacks.gradient import seeded
from harness.attacks.search import Search

QUERIES = 50  # of Square for each step of the others
TARGETS = 9
EDGE = 1e-6  # of an iterate that lies on the ball's surface


def autoattack(search: Search, *, steps: int) -> None:
    """The standard version where `steps` is 100; with others, its four attacks with so many steps.

    Its targeted loss needs four classes: below that, the untargeted forms take their place (of DLR from three on).
    """
    seed = search.seeds[0] % 2**31
    with seeded(seed):
        with torch.no_grad():
            classes = search.module(search.images[:1]).shape[1]
        whole = AutoAttack(_Rows(search), norm="Linf", eps=search.eps, version="standard", device=search.images.device, seed=seed)
        if classes < 4:
            whole.attacks_to_run = ["apgd-ce", *(["apgd-dlr"] if classes == 3 else []), "fab", "square"]
        whole.logger.setLevel(logging.CRITICAL)  # what it warns of is for gates to say
        for part in (whole.apgd, whole.apgd_targeted, whole.fab):
            part.n_iter = steps
        whole.apgd_targeted.n_target_classes = whole.fab.n_target_classes = min(TARGETS, classes - 1)
        whole.square.n_queries = QUERIES * steps
        whole.run_standard_evaluation(search.images.contiguous(), search.labels, batch_size=len(search.images))


class _Rows(nn.Module):
    """The search's module for a library that does not say whose iterate it asks about: that of the clean image that is nearest.

    FAB leaves the ball on its way; what lies outside is asked about and not kept.
    """

    def __init__(self, search: Search) -> None:
        super().__init__()
        self.search, self.clean = search, search.images.flatten(1)
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes)."""
        with torch.no_grad():
            flat = images.detach().flatten(1)
            rows = torch.cdist(flat, self.clean).argmin(1)
            inside = (flat - self.clean[rows]).abs().amax(1) <= self.search.eps + EDGE
        return self.search.ask(images, rows, inside)
