"""HopSkipJump (Chen et al., S&P 2020, arXiv:1904.02144) through Foolbox: it asks for labels alone, from scratch.

It looks for the smallest L-inf distance; what lies within the radius fools, and what does not is put into the ball by the caller.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import torch
from foolbox.attacks.hop_skip_jump import HopSkipJumpAttack
from foolbox.models.pytorch import PyTorchModel
from torch import Tensor, nn

from harness.attacks.gradient import seeded
from harness.attacks.search import Search

DRAWS = 10  # of noise, to find an image of another class where the search begins
FIRST_PROBES = 20  # of the gradient's direction in the first round; the paper's 100 would take a small budget whole
RESOLUTION = 200  # the boundary is found to this part of the distance
PROBE_LEVELS = 1.5  # of noise in each entry: the target sees bytes, and what is smaller than a level is rounded away


def hopskipjump(search: Search, *, steps: int) -> None:
    """At most `steps` queries for each image, those for a start included, until all are within the radius."""
    with seeded(search.seeds[0] % 2**31), torch.no_grad():
        begin, among = _starts(search, min(DRAWS, steps))
        search.best = search.images.clone()
        if not len(among):
            return
        budget = _Budget(search, among, steps - DRAWS)
        attack = _HopSkipJump(
            steps=steps, initial_gradient_eval_steps=FIRST_PROBES, gamma=begin[0].numel() ** 2 / RESOLUTION, constraint="linf"
        )
        # It asserts that what fooled once still does, which an engine that answers now so, now otherwise does not promise.
        with suppress(_SpentError, AssertionError):
            model = PyTorchModel(budget, bounds=(0, 1), device=search.images.device)
            attack.run(model, search.images[among], search.labels[among], starting_points=begin[among])
        search.best[search.rows[among]] = budget.nearest


def _starts(search: Search, draws: int) -> tuple[Tensor, Tensor]:
    """Images of another class, (n, c, h, w), and where one was found, int64 (m,): the negatives, then noise."""
    found, begin = torch.zeros(len(search.images), dtype=torch.bool, device=search.images.device), 1 - search.images
    for draw in range(draws):
        missing = (~found).nonzero().squeeze(1)
        if not len(missing):
            break
        if draw:
            begin[missing] = torch.rand_like(begin[missing])
        found[missing] = search.ask(begin[missing], missing).argmax(1) != search.labels[missing]
    return begin, found.nonzero().squeeze(1)


class _SpentError(Exception):
    pass


class _Budget(nn.Module):
    """The search's module for some of its images, for so many queries.

    Attributes:
        nearest: (m, c, h, w), of what was asked about and fools, the image with the smallest L-inf distance; at first the clean one.
    """

    def __init__(self, search: Search, among: Tensor, queries: int) -> None:
        super().__init__()
        self.search, self.among, self.left = search, among, queries
        self.clean, self.labels = search.images[among], search.labels[among]
        self.nearest, self.distance = self.clean.clone(), search.images.new_full((len(among),), torch.inf)
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        """The logits. Raises _SpentError: no query is left, or none is needed any more."""
        if self.left <= 0 or bool((self.distance <= self.search.eps).all()):
            raise _SpentError
        self.left -= 1
        logits = self.search.ask(images, self.among)
        distance = (images - self.clean).flatten(1).abs().amax(1)
        nearer = (logits.argmax(1) != self.labels) & (distance < self.distance)
        self.nearest[nearer], self.distance[nearer] = images[nearer], distance[nearer]
        return logits


class _HopSkipJump(HopSkipJumpAttack):
    """Probes that a byte can show."""

    def select_delta(self, originals: Any, distances: Any, step: int) -> Any:
        """The length of the probes in the L2 norm, (n,): the library's falls far below a level."""
        size = math.prod(originals.shape[1:])
        return super().select_delta(originals, distances, step).maximum(math.sqrt(size) * PROBE_LEVELS / 255)
