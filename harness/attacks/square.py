"""The Square attack (Andriushchenko et al., ECCV 2020) through `pyautoattack`: it asks for logits and takes no gradient."""

from __future__ import annotations

import torch
from pyautoattack.square import SquareAttack

from harness.attacks.gradient import seeded
from harness.attacks.search import Search


def square(search: Search, *, steps: int) -> None:
    """At most `steps` queries for each image."""
    seed = search.seeds[0] % 2**31
    with seeded(seed), torch.no_grad():
        # Asked of the module itself: the library asks about some of the images at a time, and does not say which.
        attack = SquareAttack(search.module, norm="Linf", n_queries=steps, eps=search.eps, seed=seed, device=search.images.device)
        search.ask(attack.perturb(search.images, search.labels))
