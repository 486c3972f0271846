"""What a finished run says of one figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.records import EngineRecord
from harness.requirements.units import Value
from reports.run import Run

Bounds = tuple[float | None, float | None]


@dataclass(frozen=True)
class Question:
    """Which figure is asked for.

    Attributes:
        run: the finished run; engines bear their own names, as in `run.raw`.
        engine: whose figure; None where it is the whole run's.
        engines: all that the requirements are about.
        options: of the kind, such as `batch`.
        permitted: gates that may fail.
    """

    run: Run
    engine: EngineRecord | None
    engines: Sequence[EngineRecord]
    options: Mapping[str, Any]
    permitted: frozenset[str]

    @property
    def its(self) -> EngineRecord:
        """The engine of a figure that each engine has."""
        if self.engine is None:
            raise ValueError("this figure is an engine's, and none was named")
        return self.engine


@dataclass(frozen=True)
class Reading:
    """A figure, or why there is none.

    Attributes:
        value: in the kind's base unit; None: not measured, for this `reason`.
        bounds: one-sided confidence -> lower and upper bound, None where the values are too few. None: one reading, no sampling error.
        more: limit and alpha -> what would decide where the bounds do not.
        doubt: why the figure does not count, and what helps; empty: it does.
        at_stake: of a loss: how much there is to lose beyond doubt. A larger limit could not be missed, so nothing passes it.
        reason: what to know of the figure; where there is none, why and what would give it.
    """

    value: Value | None = None
    bounds: Callable[[float], Bounds] | None = None
    more: Callable[[float, float], str] | None = None
    doubt: str = ""
    at_stake: float | None = None
    reason: str = ""


def absent(reason: str) -> Reading:
    """There is no figure."""
    return Reading(reason=reason)
