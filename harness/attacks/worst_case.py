"""Robust accuracy against several attacks at once: an image survives only if it survives them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from torch import nn

from harness.attacks.batch import attack_batch
from harness.attacks.batch_size import batch_size
from harness.attacks.clean import Mask, judge
from harness.attacks.forms import Forms
from harness.attacks.gradient import frozen_eval
from harness.attacks.grid import ball_levels
from harness.attacks.search import image_seed
from harness.attacks.table import Attack
from harness.data.dataset import Dataset
from harness.errors import UsageError
from harness.progress import Track


@dataclass(frozen=True)
class WorstCase:
    """The result.

    Attributes:
        survives: bool (n,), right on the clean image and under every attack.
        accuracy: robust accuracy after "clean" and each attack in turn; cumulative, each attack only gets the survivors of the last.
        undone: of each attack, the images that it fooled in floats and no bytes do, and those that it was given.
    """

    survives: Mask
    accuracy: dict[str, float]
    undone: dict[str, tuple[int, int]]


def worst_case(
    module: nn.Module,
    data: Dataset,
    index: NDArray[np.intp],
    attacks: Sequence[Attack],
    eps: Fraction,
    seed: int,
    *,
    batch: int | None = None,
) -> WorstCase:
    """Run `attacks` in turn, each on the survivors of the ones before it, on the images of `data` at `index`.

    `batch` images at a time; by default as many as `batch_size` allows.

    Raises:
        UsageError: a minimum-norm attack (it has no radius), or what `attack_batch` refuses.
    """
    for attack in attacks:
        if not attack.bounded:
            raise UsageError(f"{attack.name} has no radius and cannot take part in a worst case at eps {eps}. Choose L-inf attacks.")
    levels = ball_levels(eps)
    batch = batch or batch_size(module, data.images)
    survives = np.zeros(len(index), dtype=bool)
    with frozen_eval(module):
        for part in np.array_split(np.arange(len(index)), range(batch, len(index), batch)):
            survives[part] = judge(module, data.images[index[part]], data.labels[index[part]])[0]
        accuracy = {"clean": float(survives.mean())}
        forms, undone = Forms(module, data), {}
        for attack in attacks:
            given = int(survives.sum())
            survives, lost = _survivors(module, forms.get(bf16=attack.bf16), data, index, attack, levels, seed, batch, survives)
            accuracy[attack.name], undone[attack.name] = float(survives.mean()), (int(lost.sum()), given)
    return WorstCase(survives, accuracy, undone)


def _survivors(
    module: nn.Module,
    gradients: nn.Module,
    data: Dataset,
    index: NDArray[np.intp],
    attack: Attack,
    levels: int,
    seed: int,
    batch: int,
    survives: Mask,
) -> tuple[Mask, Mask]:
    """The survivors, gathered into full batches, after one more attack, and those that only rounding to bytes saved."""
    where = np.flatnonzero(survives)
    after, undone = np.zeros_like(survives), np.zeros_like(survives)
    with Track(f"{attack.name} on survivors", len(where)) as track:
        for start in range(0, len(where), batch):
            part = where[start : start + batch]
            images, labels = data.images[index[part]], data.labels[index[part]]
            seeds = [image_seed(seed, attack.name, int(i)) for i in index[part]]
            everyone = np.ones(len(part), dtype=bool)
            found = attack_batch(module, gradients, images, labels, attack, levels, seeds, everyone)
            after[part], undone[part] = found.right, found.undone
            track.advance(len(part), f"robust {after.sum()}/{start + len(part)}")
    return after, undone
