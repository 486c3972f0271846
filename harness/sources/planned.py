"""A set to be made, and what a source plans from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from harness.answers import Model
from harness.attacks.table import Attack
from harness.attacks.target import EngineTarget, ModuleTarget, Target
from harness.settings import Settings
from harness.stages.subject import Subject


@dataclass(frozen=True, eq=False)
class Planned:
    """An adversarial set to be made.

    Attributes:
        source: a key of `SOURCES`.
        target: what it is aimed at.
        attack, eps: how.
        name: of the target in the record: `twin`, or the engine (of a source `of_flavour`: the flavour) whose claim it belongs to.
        index: int64 (n,), positions of the only images that it is made of; None: all attacked images that are still worth it.
        warm: begins where the sets of these sources that are aimed at the twin or this target left an image.
    """

    source: str
    target: Target
    attack: Attack
    eps: Fraction
    name: str
    index: NDArray[np.int64] | None = None
    warm: tuple[str, ...] = ()

    @property
    def goes_on(self) -> bool:
        """Whether it begins where others left off: its attack must be able to."""
        return bool(self.warm) and self.attack.can_go_on

    @property
    def work(self) -> float:
        """About how many steps an image costs that it cannot break."""
        before = self.attack.nearby().steps if self.goes_on and not self.attack.continues else 0
        return (before + self.attack.steps) * self.attack.runs


@dataclass(frozen=True, eq=False)
class Context:
    """What a source plans from.

    Attributes:
        subject, settings: of the run.
        twin: the model that the claim was made for.
        engines: the open engines.
        between: of a flavour, models between the twin and its engines (the graph, the file computed node by node) that are shown every
            image on which they hold out, as the engines are; empty where the run does not ask them.
        parent: the network that the twin was compressed from; None where it is not known, or where the run does not attack it.
        smooth: the twin without its quantizers; None where it has none, or where the run does not attack it.
        graphs: of flavours that have a graph of their own, that graph read back, by the flavour.
        fewer_bits: the twin with weights of so many bits; empty where the run does not attack it, or rounding changes nothing.
        inherits: an engine that answers as another one does, to the bit, need not be attacked itself.
    """

    subject: Subject
    settings: Settings
    twin: ModuleTarget
    engines: Mapping[str, EngineTarget]
    graphs: Mapping[str, ModuleTarget] = field(default_factory=dict)
    smooth: ModuleTarget | None = None
    between: Mapping[str, Sequence[Model]] = field(default_factory=dict)
    parent: ModuleTarget | None = None
    fewer_bits: Mapping[int, ModuleTarget] = field(default_factory=dict)
    inherits: bool = False
