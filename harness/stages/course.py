"""The course of an attack: one of the run's own, made again on a few images with every step looked at."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.attacks.access import Access
from harness.attacks.batch_size import batch_size
from harness.attacks.gradient import frozen_eval
from harness.attacks.grid import ball_levels
from harness.attacks.search import Search, image_seed, margins
from harness.attacks.table import Attack
from harness.audit.gates import LAST
from harness.data.dataset import Dataset, to_tensor

IMAGES = 32
ALL_ZERO = 0.99  # share of a gradient's entries, as of the gate on the gradient at the start


@dataclass(frozen=True)
class Course:
    """What each step showed.

    Attributes:
        margins: float32 (asked, n), the smallest margin so far.
        each: float32 (asked, n), the margin of each iterate.
        zero: bool (n,), the gradient was zero at a step at which the image was not fooled yet.
        lost: bool (n,), an iterate fooled the module, and what the search kept does not when it is asked about once more.
    """

    margins: NDArray[np.float32]
    each: NDArray[np.float32]
    zero: NDArray[np.bool_]
    lost: NDArray[np.bool_]


def chosen(attacks: tuple[Attack, ...]) -> Attack | None:
    """The attack whose course is looked at: of those that follow a gradient within a ball the shortest that shows one, else the longest."""
    gradients = sorted((one for one in attacks if one.access is Access.GRADIENT and one.bounded), key=lambda attack: attack.steps)
    return next((attack for attack in gradients if attack.steps >= 2 * LAST), gradients[-1] if gradients else None)


def course(module: nn.Module, data: Dataset, attack: Attack, eps: float, seed: int) -> Course:
    """Attack `data` (images that the module has right) and watch."""
    search = _watch(module, data, attack, eps, [image_seed(seed, attack.name, i) for i in range(len(data))])
    steps = torch.stack(search.course).numpy() if search.course else np.zeros((0, len(data)), np.float32)
    smallest = np.minimum.accumulate(steps, axis=0) if len(steps) else steps
    with frozen_eval(module), torch.no_grad():
        kept = margins(module(search.best), search.labels).float().numpy()
    fooled = (smallest < 0).any(axis=0)
    return Course(smallest, steps, search.zero.numpy(), fooled & (kept > 0))


def draws(module: nn.Module, data: Dataset, index: NDArray[np.int64], attack: Attack, eps: Fraction, seed: int) -> NDArray[np.float32]:
    """The margins of the images at `index` under each step of an attack of which no step depends on another, as noise: (steps, n).

    They are those of the set that the attack makes of these images: seeds and radius are the same.
    """
    radius, size = ball_levels(eps) / 255, batch_size(module, data.images)
    found = []
    for start in range(0, len(index), size):
        part = index[start : start + size]
        seeds = [image_seed(seed, attack.name, int(i)) for i in part]
        found.append(torch.stack(_watch(module, data.subset(part), attack, radius, seeds).course).numpy())
    return np.concatenate(found, axis=1) if found else np.zeros((attack.steps, 0), np.float32)


def _watch(module: nn.Module, data: Dataset, attack: Attack, eps: float, seeds: list[int]) -> _Watched:
    """The search after the attack."""
    search = _Watched(module, to_tensor(data.images), torch.from_numpy(data.labels), eps, seeds)
    with frozen_eval(module):
        attack.function(search)
    return search


class _Watched(Search):
    """Remembers the margin of each iterate, and where the gradient was zero. No image leaves it, so its rows stay whole."""

    def __init__(self, module: nn.Module, images: Tensor, labels: Tensor, eps: float, seeds: list[int]) -> None:
        super().__init__(module, images, labels, eps, seeds)
        self.course: list[Tensor] = []
        self.zero = torch.zeros(len(images), dtype=torch.bool)

    def ask(self, images: Tensor, among: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """As the search does; what is asked about some of the rows alone is no step of all."""
        logits = super().ask(images, among, keep)
        if among is not None:
            return logits
        margin = margins(logits.detach(), self.labels)
        self.course.append(margin.float())
        if images.requires_grad:
            holds = torch.stack(self.course).amin(0) > 0

            def look(gradient: Tensor) -> None:
                self.zero |= holds & ((gradient == 0).flatten(1).double().mean(1) > ALL_ZERO)

            images.register_hook(look)  # type: ignore[no-untyped-call]
        return logits
