"""The Square attack (Andriushchenko et al., ECCV 2020) through `pyautoattack`: it asks for logits and takes no gradient."""

from __future__ import annotations

import torch
from pyautoattack.square import SquareAttack
from torch import Tensor

from harness.attacks.gradient import seeded
from harness.attacks.search import Search, margins

SHARE, SHARE_WARM = 0.8, 0.05  # of the image, that the first squares cover: the paper's, and where there is something to lose


def square(search: Search, *, steps: int) -> None:
    """At most `steps` queries for each image after that of its start, until it fools."""
    seed = search.seeds[0] % 2**31
    with seeded(seed), torch.no_grad():
        attack = _Square(search, steps)
        attack.init_hyperparam(search.images)
        attack.attack_single_run(search.images, search.labels)


class _Square(SquareAttack):  # type: ignore[misc]  # the library has no types
    """The library's loop, from the search's own start where that is a warm one; the search sees every image that is asked about."""

    def __init__(self, search: Search, steps: int) -> None:
        share = SHARE_WARM if search.warm else SHARE
        super().__init__(search.module, norm="Linf", n_queries=steps, eps=search.eps, p_init=share, device=search.images.device)
        self._search = search
        self._first = search.start() if search.warm else None
        self._margin = search.images.new_full((len(search.images),), torch.inf)

    def random_choice(self, shape: list[int]) -> Tensor:
        """Random signs; for the first image of all, (n, c, 1, w) of them, what leads to the warm start."""
        if self._first is not None and len(shape) == 4:
            return (self._first - self._search.images) / self._search.eps
        signs: Tensor = super().random_choice(shape)
        return signs

    def margin_and_loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The margins of the images that do not fool yet, which the library asks about and does not name."""
        among = (self._margin > 0).nonzero().squeeze(1)
        margin = margins(self._search.ask(x, among), y)
        self._margin[among] = torch.minimum(self._margin[among], margin)
        return margin, margin.clone()
