"""What an attack can be aimed at: a PyTorch module, which has gradients, an engine, which has answers only, or the two of them together."""

from __future__ import annotations

from collections.abc import Callable
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
from harness.models.predictions import logits


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
    """An open engine. `look` is called after each answer: a moment at which nothing is timed."""

    session: EngineSession
    look: Callable[[], None] = lambda: None

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
        return Engine(self)

    def logits(self, images: Images) -> Logits:
        """As the engine gives them. Raises EngineLostError: it gave up."""
        try:
            answers = self.session.logits(images)
        except EngineError as error:
            raise EngineLostError(self.id, str(error)) from error
        self.look()
        return answers


@dataclass(frozen=True, eq=False)
class GuidedTarget:
    """An engine, and a module that is nearly the same network: the engine answers, the module's gradient says where to go.

    This is BPDA, the backward pass differentiable approximation (Athalye et al., ICML 2018, section 4.1), of the engine as a whole.
    """

    engine: Target
    guide: nn.Module
    access: Access = Access.GRADIENT

    @property
    def id(self) -> str:
        """The engine's."""
        return self.engine.id

    @property
    def sha256(self) -> str:
        """The engine's."""
        return self.engine.sha256

    @cached_property
    def module(self) -> nn.Module:
        """See `Guided`."""
        return Guided(self.engine, self.guide)

    def logits(self, images: Images) -> Logits:
        """The engine's."""
        return self.engine.logits(images)


class Guided(nn.Module):
    """The engine's answers with the guide's gradient. Of an engine that names labels only, see `lifted`."""

    def __init__(self, engine: Target, guide: nn.Module) -> None:
        super().__init__()
        self.engine, self.guide = engine, guide
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) in [0, 1], rounded to bytes for the engine -> logits (n, classes)."""
        answers = torch.from_numpy(self.engine.logits(to_bytes(images))).to(images.device)
        labels = self.engine.access is Access.LABELS
        if not (labels or images.requires_grad):
            return answers
        guided = self.guide(images).to(images.device)
        said = lifted(guided.detach(), answers.argmax(1)) if labels else answers
        straight: Tensor = guided - guided.detach()  # of zeros, with the guide's gradient
        return straight + said

    def extra_repr(self) -> str:
        """What runs, so that the module's hash holds it."""
        return f"{self.engine.id} {self.engine.sha256}"


class Pair(nn.Module):
    """Two networks for an attack that parts them (`harness.attacks.diva`): `falls` answers, and is to be fooled while `stays` is right."""

    def __init__(self, stays: nn.Module, falls: nn.Module) -> None:
        super().__init__()
        self.stays, self.falls = stays, falls
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> the logits of `falls`, (n, classes)."""
        logits: Tensor = self.falls(images).to(images.device)
        return logits


LIFT = 1e-3  # above the guide's largest logit


def lifted(guided: Tensor, labels: Tensor) -> Tensor:
    """The guide's logits (n, classes) made to agree with the engine's labels (n,), which come out on top, if only by a little.

    So the engine decides who is fooled, and among images that it has right, the guide says which is the nearest to the boundary.
    """
    rows = torch.arange(len(labels), device=guided.device)
    wrong = guided.argmax(1) != labels
    found = guided.clone()
    found[rows[wrong], labels[wrong]] = guided[wrong].amax(1) + LIFT
    return found


def answers_for(module: nn.Module, model: Model) -> bool:
    """Whether a target's module answers to bytes as that model does, so that nobody needs to ask both."""
    return getattr(model, "module", None) is module or getattr(module, "engine", None) is model


class Engine(nn.Module):
    """An engine behind a module's face."""

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
