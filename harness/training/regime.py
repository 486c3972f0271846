"""What a training does besides gradient descent on a named objective: a compression method's part of the loop."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from harness.training.objectives import OBJECTIVES
from harness.training.recipe import Stage


class Regime:
    """The plain one: the stage's own objective, the best epoch on held-out images, nothing between epochs.

    Attributes:
        keep: which epoch's averaged weights the training ends with.
        queries: of an attack without gradients (Square) that a held-out image must withstand besides PGD, when epochs are compared.
        epoch: the one that runs, from 1; set by the training.
    """

    keep: Literal["best", "last"] = "best"
    queries: int = 0
    epoch: int = 1

    def loss(self, network: nn.Module, x: Tensor, y: Tensor, stage: Stage, generator: torch.Generator) -> Tensor:
        """The scalar to descend on, for images x (n, c, h, w) in [0, 1] and labels y (n,)."""
        return OBJECTIVES[stage.objective](network, x, y, stage, generator)

    def after_epoch(self, network: nn.Module, number: int) -> None:
        """Called after epoch `number` (from 1), before the checkpoint is written."""

    def state(self) -> dict[str, Tensor]:
        """What a resumed training needs back."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
