"""What a run has gathered when all engines were asked: what is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.answers import Column, Matrix
from harness.settings import Settings
from harness.sources import decides, deciding
from harness.stages.again import Again
from harness.stages.measured import Measured
from harness.stages.subject import Subject


@dataclass(frozen=True)
class Evidence:
    """What a run has gathered.

    Attributes:
        subject: what it is about.
        settings: its options.
        measured: every engine's raw results.
        matrix: everyone's answers.
        lost: engines that gave up while they were asked, and why.
        again: what engines answered once more, opened anew.
    """

    subject: Subject
    settings: Settings
    measured: Sequence[Measured]
    matrix: Matrix
    lost: Mapping[str, str]
    again: Mapping[str, Again] = field(default_factory=dict)

    def answers(self, engine: str) -> bool:
        """Whether an engine answered to everything."""
        return any(m.ok and m.engine.name == engine for m in self.measured) and engine not in self.lost and self.matrix.has(engine)

    def deciding(self, engine: str) -> list[Column]:
        """The sets that an engine's claim rests on: within the primary radius."""
        return deciding(self.matrix.columns, engine, self.subject.eps)

    @property
    def primary(self) -> list[Column]:
        """The sets of the primary radius that decide claims."""
        return [column for column in self.matrix.columns if column.eps == self.subject.eps and decides(column)]
