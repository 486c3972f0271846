"""The differential attack: one network is fooled while another one, nearly the same, stays right.

DIVA (Hao et al., "A Tale of Two Models: Constructing Evasive Attacks on Edge Models", MLSys 2022, arXiv:2204.10933, equation 5) maximises
p_original[y] - c * p_adapted[y]. Here with c = 1, and with the steps of Auto-PGD in place of PGD's. Where the two networks are nearly the
same, that difference is large in directions that never reach a boundary; so the second half of the steps maximises the smaller of the two
margins, which is above 0 exactly where the attack succeeds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.attacks.apgd import Loss, climb
from harness.attacks.search import Search, margins
from harness.attacks.target import Pair

C = 1.0


def diva(search: Search, *, steps: int) -> None:
    """On a `harness.attacks.target.Pair`. Kept is the best iterate on which the network that is to stay right is right.

    A lone network has no other beside it: then its own probability of the label, or its margin, is all there is to lower.
    """
    _run(search, _probability, C, steps - steps // 2)
    search.checkpoint()
    _run(search, margins, None, steps // 2)


def _run(search: Search, worth: Loss, c: float | None, steps: int) -> None:
    """One run on what is worth of the one that stays less `c` times that of the one that falls; without `c`, on the smaller of the two."""

    def apart(x: Tensor) -> Tensor:
        if not isinstance(search.module, Pair):
            return -worth(search.ask(x), search.labels)
        stays = search.module.stays(x).to(x.device)
        falls = search.ask(x, keep=stays.argmax(1) == search.labels)
        first, second = worth(stays, search.labels), worth(falls, search.labels)
        return torch.minimum(first, -second) if c is None else first - c * second

    climb(search, apart, steps)


def _probability(logits: Tensor, labels: Tensor) -> Tensor:
    """p[y], (n,)."""
    return logits.softmax(1).gather(1, labels[:, None]).squeeze(1)
