"""Whether a finished run meets each requirement: PASS, FAIL, INCONCLUSIVE or NOT MEASURED.

One rule for all rows. Of the m rows whose figure has a sampling error, one passes where its one-sided bound at 1 - alpha / m is within the
limit (Bonferroni): the chance that any row of the file passes unjustly stays below alpha = 1 - confidence, however the rows depend on each
other. A row fails where its opposite one-sided bound at `confidence` alone is beyond the limit: an adjustment there would hide a bad
engine the better the more is required. Between the two it is INCONCLUSIVE. A figure without sampling error is compared as it is.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from harness.errors import UsageError
from harness.records import EngineRecord, Outcome, Qualification, Requirement, RunRecord, Step
from harness.requirements.evidence import quantized
from harness.requirements.file import Line, Wanted
from harness.requirements.reading import Bounds, Question, Reading, absent
from harness.requirements.units import Value
from reports.format import figure
from reports.run import Run

WITHIN: dict[str, Callable[[Value, Value], bool]] = {
    "at_most": lambda value, limit: cast(float, value) <= cast(float, limit),
    "at_least": lambda value, limit: cast(float, value) >= cast(float, limit),
    "all_of": lambda value, limit: set(cast(Sequence[str], limit)) <= set(cast(Sequence[str], value)),
    "may_fail": lambda value, limit: set(cast(Sequence[str], value)) <= set(cast(Sequence[str], limit)),
    "real": lambda value, limit: value is limit,
}


@dataclass(frozen=True)
class Asked:
    """A line, the engine it is asked of (None: the run), and what was read."""

    line: Line
    engine: EngineRecord | None
    reading: Reading


def qualify(folder: Path, wanted: Wanted) -> RunRecord:
    """The record of a finished run with every row of a requirements file; nothing is written.

    Raises:
        UsageError: not the folder of a finished run, or the file names an engine that is not in it.
        UntrustedError: the record or a raw file is damaged.
    """
    run = open_finished(folder)
    wanted.check_engines({engine.name: engine.flavour for engine in run.raw.engines})
    asked = ask(run, wanted)
    sampled = sum(one.reading.bounds is not None for one in asked)
    level = 1 - (1 - wanted.confidence) / max(sampled, 1)
    rule = Qualification(name=wanted.name, sha256=wanted.sha256, confidence=wanted.confidence, sampled=sampled, level=level)
    return run.raw.model_copy(update={"qualification": rule, "requirements": [judge(one, rule) for one in asked]})


def open_finished(folder: Path) -> Run:
    """A finished run.

    Raises:
        UsageError: there is none, or it has not finished.
        UntrustedError: its record is damaged.
    """
    run = Run.open(folder)
    if run.raw.status != Step.FINISHED:
        raise UsageError(
            f"{folder} stopped after the step '{run.raw.status}'. Finish it first: harness bench --resume {shlex.quote(str(folder))}"
        )
    return run


def ask(run: Run, wanted: Wanted) -> list[Asked]:
    """Every line of every engine that it is about, in the order of the file."""
    permitted = frozenset(name for line in wanted.lines if line.kind == "gates" for name in cast(Sequence[str], line.limit))
    found = []
    for line in wanted.lines:
        engines = [one for one in in_question(run.raw, [line.engine] if line.engine else wanted.engines) if line.asks.means(one)]
        if line.asks.per == "engine" and not engines:
            found.append(Asked(line, None, absent("No engine of this run is in question.")))
        for engine in engines if line.asks.per == "engine" else [None]:
            question = Question(run, engine, engines, line.options, permitted)
            found.append(Asked(line, engine, line.asks.read(question)))
    return found


def in_question(record: RunRecord, named: Sequence[str]) -> list[EngineRecord]:
    """The engines of those names or flavours; where none is named, all but the float control beside quantized ones."""
    if named:
        return [engine for engine in record.engines if engine.name in named or engine.flavour in named]
    controls = {claim.engine for claim in record.claims if claim.control}
    if not record.claims and any(map(quantized, record.engines)):
        controls = {e.name for e in record.engines if e.precision_evidence is not None and e.precision_evidence.claimed == "fp32"}
    return [engine for engine in record.engines if engine.name not in controls]


def judge(asked: Asked, rule: Qualification) -> Requirement:
    """One row."""
    line, reading, kind = asked.line, asked.reading, asked.line.asks
    bounds = _interval(reading, kind.side, rule)
    result, reason = outcome(reading, kind.side, line.limit, bounds, rule)
    return Requirement(
        name=line.name,
        kind=line.kind,
        engine=asked.engine.name if asked.engine else None,
        line=line.number,
        side=kind.side,
        unit=kind.unit.base,  # type: ignore[arg-type]
        limit=_stored(line.limit),
        observed=None if reading.value is None else _stored(reading.value),
        interval=bounds,
        outcome=result,
        reason=reason,
    )


def _interval(reading: Reading, side: str, rule: Qualification) -> Bounds | None:
    """The bound that PASS needs at the shared level, the other at the plain confidence."""
    if reading.bounds is None:
        return None
    (low, high), (lower, upper) = reading.bounds(rule.confidence), reading.bounds(rule.level)
    return (low, upper) if side == "at_most" else (lower, high)


def outcome(reading: Reading, side: str, limit: Value, bounds: Bounds | None, rule: Qualification) -> tuple[Outcome, str]:
    """The answer, and why or what would decide it. `bounds`: as `Requirement.interval` has them."""
    if reading.value is None:
        return Outcome.NOT_MEASURED, reading.reason
    if reading.doubt:
        return Outcome.INCONCLUSIVE, reading.doubt
    if bounds is None:
        return (Outcome.PASS if WITHIN[side](reading.value, limit) else Outcome.FAIL), reading.reason
    lower, upper = bounds
    passing, failing = (upper, lower) if side == "at_most" else (lower, upper)
    if failing is not None and not WITHIN[side](failing, limit):
        return Outcome.FAIL, reading.reason
    if passing is not None and WITHIN[side](passing, limit):
        if reading.at_stake is not None and reading.at_stake <= cast(float, limit):
            most = figure(reading.at_stake, "points")
            return (
                Outcome.INCONCLUSIVE,
                f"There is no more than {most} to lose beyond doubt: no engine could miss this limit. Ask for less.",
            )
        return Outcome.PASS, reading.reason
    more = "" if reading.more is None else reading.more(cast(float, limit), 1 - rule.level)
    return Outcome.INCONCLUSIVE, " ".join(filter(None, (more, reading.reason)))


def _stored(value: Value) -> float | bool | list[str]:
    return list(value) if isinstance(value, tuple) else value
