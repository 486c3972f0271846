"""What a method is given, and how it trains: every stage resumable in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.compression import rate
from harness.compression.recipe import CompressionRecipe
from harness.compute.placement import device
from harness.data.dataset import Dataset
from harness.training.augmentation import Augmentation
from harness.training.regime import Regime
from harness.training.selection import Fitted
from harness.training.train import fit, judged_again


@dataclass
class Job:
    """One compression.

    Attributes:
        network: the twin to compress (its parameters are trained in place), or a fresh student.
        arch: the network's architecture; a method that changes its form writes the new one here.
        input_shape: (channels, height, width).
        data: the training images; None for a method that trains nothing.
        rate: what was asked for, as text; its meaning is the method's (`sparsity`, `bits`).
        recipe: the stages.
        out: folder of the stages' checkpoints.
        pattern: where zeros may stand, a key of `masks.PATTERNS`.
        until: the stage to stop after; the last by default.
        check_variations: finds how images may be varied where a stage's recipe does not say; asked when the first stage is trained.
        teachers: fixed networks in eval mode, by role: `robust` and, where a method needs it, `standard`.
        fitted: what every stage showed, filled by `train`.
        notes: what the method found out, for the card: layers left alone, thresholds.
    """

    network: nn.Module
    arch: str
    input_shape: tuple[int, int, int]
    data: Dataset | None
    rate: str
    recipe: CompressionRecipe
    out: Path
    pattern: str = "irregular"
    until: str | None = None
    teachers: dict[str, nn.Module] = field(default_factory=dict)
    check_variations: Callable[[], Augmentation] = Augmentation
    fitted: dict[str, Fitted] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for network in (self.network, *self.teachers.values()):
            network.to(device()).to(memory_format=torch.channels_last)

    @cached_property
    def augmentation(self) -> Augmentation:
        """How images are varied where a stage's recipe does not say."""
        return self.check_variations()

    @property
    def sparsity(self) -> float:
        """The rate as a share of zeros."""
        return rate.sparsity(self.rate)

    @property
    def bits(self) -> tuple[int, int]:
        """The rate as bits of (weights, activations)."""
        return rate.bits(self.rate)

    def train(self, stage: str, regime: Regime | None = None) -> nn.Module:
        """Train the job's network by one stage of its recipe; see `harness.training.train.fit`."""
        assert self.data is not None  # noqa: S101  # every method that trains has stages
        self.fitted[stage] = fit(self.recipe.stages[stage], self.data, self.network, self.out / stage, regime, self.augmentation)
        return self.network

    def judge(self, stage: str) -> None:
        """Look at the stage's held-out images with the network as it is now, in place of what was seen when it was trained."""
        assert self.data is not None  # noqa: S101
        self.fitted[stage] = judged_again(self.fitted[stage], self.recipe.stages[stage], self.data, self.network.eval())

    def option(self, name: str, default: float) -> float:
        """A constant of the method: the recipe's, else the paper's."""
        return self.recipe.options.get(name, default)
