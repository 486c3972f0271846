"""The Square attack (Andriushchenko et al., ECCV 2020) through `pyautoattack`: it asks for logits and takes no gradient."""

from __future__ import annotations

from typing import Literal

import torch
from pyautoattack.square import SquareAttack
from torch import Tensor
from torch.nn import functional as F

from harness.attacks.gradient import seeded
from harness.attacks.search import Search, halved, margins, on_grid

SHARE, SHARE_WARM = 0.8, 0.05  # of the image, that the first squares cover: the paper's, and where there is something to lose
RADII = (4.0, 2.0, 1.0, 0.5, 0.25, 0.125)  # of the L2 norm of images in [0, 1]
HALVINGS = 6  # of the way from the clean image to what fools at a radius
SMALLEST = 5  # pixels of an edge: the L2 form begins with a grid of five by five squares


def square(search: Search, *, steps: int) -> None:
    """At most `steps` queries for each image after that of its start, until it fools."""
    with seeded(search.seeds[0] % 2**31), torch.no_grad():
        everyone = torch.arange(len(search.images), device=search.images.device)
        first = search.start() if search.warm else None
        _Square(search, everyone, "Linf", search.eps, steps, first).run()


def square_l2(search: Search, *, steps: int) -> None:
    """At most `steps` queries for each image: in a large L2 ball, then, where something fools there, in ever smaller ones.

    The form of the paper has a radius; this looks for the smallest. What fools in a ball is drawn back to the boundary by halving the way,
    and where that is nearer than the next radius, the radius is that of the ball after. Images below 5 x 5 pixels are left alone.
    """
    budget = steps // len(RADII) - HALVINGS - 1
    if min(search.images.shape[2:]) < SMALLEST or budget < 1:
        return
    with seeded(search.seeds[0] % 2**31), torch.no_grad():
        nearest = search.images.new_full((len(search.images),), torch.inf)
        fallen = torch.ones_like(nearest, dtype=torch.bool)
        for radius in RADII:
            due = (fallen & (nearest > radius)).nonzero().squeeze(1)
            if len(due):
                found, fools = _Square(search, due, "L2", radius, budget).run()
                nearest[due[fools]] = _drawn_back(search, due[fools], found[fools]).minimum(nearest[due[fools]])
            fallen = nearest <= radius * (1 + 1e-6)


def _drawn_back(search: Search, among: Tensor, found: Tensor) -> Tensor:
    """The smallest distance, (m,), at which an image on the way from the clean one to `found` (m, c, h, w) is seen to fool."""
    clean, labels = search.images[among], search.labels[among]
    high = halved(clean, found, HALVINGS, lambda x: search.ask(x, among).argmax(1) != labels)
    distance: Tensor = (high * (found - clean)).flatten(1).norm(dim=1)
    return distance


class _Square(SquareAttack):  # type: ignore[misc]  # the library has no types
    """The library's loop for some images of a search, which sees every image that is asked about.

    Args:
        among: int64 (m,), positions among the search's present rows.
        first: (m, c, h, w) in the L-inf ball, where the loop begins instead of with stripes; None: as the library does.
    """

    def __init__(
        self, search: Search, among: Tensor, norm: Literal["Linf", "L2"], eps: float, steps: int, first: Tensor | None = None
    ) -> None:
        share = SHARE if first is None else SHARE_WARM
        super().__init__(search.module, norm=norm, n_queries=steps, eps=eps, p_init=share, device=search.images.device)
        self._search, self._among, self._first = search, among, first
        self._images, self._labels = search.images[among], search.labels[among]
        self._height = self._images.shape[2]
        self._below = missing_rows(*self._images.shape[2:]) if norm == "L2" else 0
        self._margin = search.images.new_full((len(among),), torch.inf)

    def run(self) -> tuple[Tensor, Tensor]:
        """What the loop ends with, (m, c, h, w), and where it fools, bool (m,)."""
        images = F.pad(self._images, (0, 0, 0, self._below))
        self.init_hyperparam(images)
        _, found = self.attack_single_run(images, self._labels)
        return found[:, :, : self._height], self._margin < 0

    def random_choice(self, shape: list[int]) -> Tensor:
        """Random signs; for the first image of all, (n, c, 1, w) of them, what leads to the warm start."""
        if self._first is not None and len(shape) == 4:
            towards: Tensor = (self._first - self._images) / self.eps
            return towards
        signs: Tensor = super().random_choice(shape)
        return signs

    def margin_and_loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The margins of the images that do not fool yet, which the library asks about and does not name."""
        due = (self._margin > 0).nonzero().squeeze(1)
        margin = margins(self._search.ask(self._shown(x), self._among[due]), y)
        self._margin[due] = torch.minimum(self._margin[due], margin)
        return margin, margin.clone()

    def _shown(self, x: Tensor) -> Tensor:
        """In the L2 form bytes: the nearest are looked for, and floats would be asked about twice."""
        return x if self.norm == "Linf" else on_grid(x[:, :, : self._height])


def missing_rows(height: int, width: int) -> int:
    """How many rows the L2 form needs below images of that size, at least `SMALLEST` pixels each way; no model sees them.

    The library lays its first squares from a border that is half of what five of them leave of the height. On some sizes (14, 24, 64 x 96)
    the last one ends outside of the image, and it fails; where five fill the height there is no border.
    """
    size = height // SMALLEST
    border = height % SMALLEST // 2
    fits = size == 1 or all(border + side // size * size <= side for side in (height, width))
    return 0 if fits else -height % SMALLEST
