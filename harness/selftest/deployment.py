"""A deployment: one small module that says what is changed of a sound one, and who must notice. Every module of a folder is one.

A module may define, beside its docstring:

    CAUGHT_BY   of a fault: the gate or the verdict that must catch it, or `refused: WORDS` of the error that ends the run
    VERDICT     of a sound one: what it earns; HOLDS where it says nothing
    FLAVOURS    what is deployed; the user's own engine where it says nothing
    SETTINGS    other options of the run than the self-test's
    PLAN        other figures of its tier, see `harness.settings.TierPlan`
    ATTACK      the only attack that is made, which no table has
    HELLO       more of the first line of the user's own engine
    subject     (Subject) -> Subject: another network, other images, labels or calibration
    graph       (ModelProto, Subject) -> ModelProto: what the exporter writes
    shipped     (Path, Subject) -> Path: the file that reaches the device instead
    deploy      (Answer) -> Answer: what the engine makes of its answers; it may remember until it is closed
    answer      (images, engine) -> logits: the same for an engine that remembers nothing
    tamper      (Path) -> None: what happens to the run's folder before the run goes on
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from onnx import ModelProto

from harness.attacks.table import Attack
from harness.selftest.serving import Answer, Deploy
from harness.stages.subject import Subject

OWN = "exec:engine"
FAULTS, SOUND = "harness.selftest.faults", "harness.selftest.sound"
HOLDS, REFUSED = "HOLDS", "refused: "
_NO_ATTACK = {"batches", "builds", "threads", "measure_s", "warmup_s", "rounds"}


def _as_it_is(answer: Answer) -> Answer:
    return answer


@dataclass(frozen=True)
class Deployment:
    """See the module.

    Attributes:
        name: of its module.
        title: the first line of its docstring.
        faulty: it must be caught.
        expected: gate, verdict or refusal.
    """

    name: str
    title: str
    faulty: bool
    expected: str
    flavours: tuple[str, ...] = (OWN,)
    settings: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    hello: Mapping[str, Any] = field(default_factory=dict)
    attack: Attack | None = None
    subject: Callable[[Subject], Subject] | None = None
    graph: Callable[[ModelProto, Subject], ModelProto] | None = None
    shipped: Callable[[Path, Subject], Path] | None = None
    deploy: Deploy = _as_it_is
    tamper: Callable[[Path], None] | None = None

    @property
    def other_attacks(self) -> bool:
        """Whether options say that the twin is attacked otherwise than in the sound deployment."""
        return self.attack is not None or not {*self.settings, *self.plan} <= _NO_ATTACK


def read(module: ModuleType) -> Deployment:
    """The deployment that a module describes.

    Raises:
        ValueError: it does not say what it is, or a fault does not say what must catch it.
    """
    name, title = module.__name__.rpartition(".")[2], (module.__doc__ or "").strip().split("\n")[0].rstrip(".")
    given = {key: value for key, value in vars(module).items() if not key.startswith("_")}
    faulty = "CAUGHT_BY" in given
    if not title or faulty == module.__name__.startswith(SOUND):
        raise ValueError(f"{module.__name__} must have a docstring, a fault CAUGHT_BY, a sound deployment none")
    answer = given.get("answer")
    hooks = {key: given[key] for key in ("subject", "graph", "shipped", "deploy", "tamper") if key in given}
    if answer is not None:
        hooks["deploy"] = lambda engine: lambda images: answer(images, engine)
    values = {key.lower(): given[key] for key in ("FLAVOURS", "SETTINGS", "PLAN", "HELLO", "ATTACK") if key in given}
    return Deployment(name, title, faulty, given["CAUGHT_BY"] if faulty else given.get("VERDICT", HOLDS), **values, **hooks)


def deployments() -> Iterator[Deployment]:
    """Every fault, then every sound deployment, by name."""
    for folder in (FAULTS, SOUND):
        package = importlib.import_module(folder)
        for found in sorted(pkgutil.iter_modules(package.__path__), key=lambda one: one.name):
            yield read(importlib.import_module(f"{folder}.{found.name}"))
