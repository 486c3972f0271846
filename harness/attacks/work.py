"""The work on a set, in batches: what all of them share, and what each has of its own. Another process can do it with the same result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from harness.answers import Model
from harness.attacks.batch import Attacked, Panel, attack_batch
from harness.attacks.clean import Clean, Images, Labels, Mask
from harness.attacks.gradient import frozen_eval
from harness.attacks.table import Attack


@dataclass(frozen=True)
class Common:
    """What all batches of a set share.

    Attributes:
        module, gradients, attack, levels: see `attack_batch`.
        judges: of the panel; None where there is no panel.
    """

    module: nn.Module
    gradients: nn.Module
    attack: Attack
    levels: int | None
    judges: Sequence[Model] | None


@dataclass(frozen=True)
class Batch:
    """What a batch of n images has of its own.

    Attributes:
        images: uint8 (n, h, w, c).
        labels: int64 (n,).
        seeds: n of them.
        wanted: bool (n,).
        fooled: bool (n, judges), who of the panel was fooled before; None where there is no panel.
        first: uint8 (n, h, w, c), where the search starts; None: at random.
        clean: what the module answers to the images, where that is known.
    """

    images: Images
    labels: Labels
    seeds: Sequence[int]
    wanted: Mask
    fooled: Mask | None
    first: Images | None
    clean: Clean | None


def attacked(common: Common, batch: Batch) -> Attacked:
    """The batch after the attack. Raises as `attack_batch`."""
    panel = None if common.judges is None or batch.fooled is None else Panel(common.judges, batch.fooled)
    with frozen_eval(common.module):
        return attack_batch(
            common.module,
            common.gradients,
            batch.images,
            batch.labels,
            common.attack,
            common.levels,
            batch.seeds,
            batch.wanted,
            panel,
            batch.first,
            clean=batch.clean,
        )
