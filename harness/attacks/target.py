"""What an attack can be aimed at: a PyTorch module, which has gradients, or an engine, which has answers only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

from devices.host.session import EngineError, EngineSession
from export.identity import module_sha256
from harness.answers import TWIN, Images, Logits, Model
from harness.attacks.access import Access
from harness.data.dataset import to_bytes
from harness.predictions import logits


class Target(Model, Protocol):
    """A model that is attacked. `module` maps float images (n, c, h, w) in [0, 1] to logits (n, classes)."""

    @property
    def access(self) -> Access:
        """What it gives."""
        ...

    @property
    def module(self) -> nn.Module:
        """See the class."""
        ...


@dataclass(frozen=True, eq=False)
class ModuleTarget:
    """A PyTorch module in evaluation mode."""

    module: nn.Module
    id: str = TWIN
    access: Access = Access.GRADIENT

    @cached_property
    def sha256(self) -> str:
        """Of its structure and weights."""
        return module_sha256(self.module)

    def logits(self, images: Images) -> Logits:
        """In float32, on the CPU."""
        return logits(self.module, images)


class EngineLostError(Exception):
    """An engine gave up while it was asked; the message says why. `engine`: its name."""

    def __init__(self, engine: str, message: str) -> None:
        super().__init__(message)
        self.engine = engine


@dataclass(frozen=True, eq=False)
class EngineTarget:
    """An open engine."""

    session: EngineSession

    @property
    def id(self) -> str:
        """The engine's."""
        return str(self.session.id)

    @cached_property
    def sha256(self) -> str:
        """Of the plan that runs."""
        return self.session.plan_sha256

    @property
    def access(self) -> Access:
        """Scores, or labels where it names nothing else."""
        return Access.LABELS if self.session.hello.output == "labels" else Access.SCORES

    @cached_property
    def module(self) -> nn.Module:
        """The engine behind a module's face, for attacks by queries; it has no gradient."""
        return _Engine(self)

    def logits(self, images: Images) -> Logits:
        """As the engine gives them. Raises EngineLostError: it gave up."""
        try:
            return self.session.logits(images)
        except EngineError as error:
            raise EngineLostError(self.id, str(error)) from error


class _Engine(nn.Module):
    def __init__(self, engine: EngineTarget) -> None:
        super().__init__()
        self.engine = engine
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) in [0, 1], rounded to bytes -> logits (n, classes)."""
        return torch.from_numpy(self.engine.logits(to_bytes(images)))

    def extra_repr(self) -> str:
        """What runs, so that the module's hash holds it."""
        return f"{self.engine.id} {self.engine.sha256}"
