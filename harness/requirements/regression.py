"""Whether an engine became worse from one run to another, by the rule of `judge`: what `harness compare --fail-on` asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from harness.answers import Column, Right
from harness.audit.statistics import welch_bounds
from harness.errors import UntrustedError, UsageError, unknown
from harness.records import EngineRecord, Outcome, Qualification, Requirement
from harness.requirements import timing
from harness.requirements.accuracy import paired_loss, primary_radius
from harness.requirements.doubts import no_answer, of_answers
from harness.requirements.judge import in_question, outcome
from harness.requirements.reading import Bounds, Question, Reading, absent
from harness.requirements.units import FINEST, POINTS, Unit, quantity
from harness.sources import deciding
from reports.run import Run

CONFIDENCE = 0.95
CHANGE = quantity("share", 'a share such as "5%"', {"%": 0.01}, least=FINEST)
NAMES = frozenset[str]()  # gates that may fail: none
EXACT = 12  # decimals of a ratio: 110 / 100 - 1 is 10 %, and not a little more


@dataclass(frozen=True)
class Both:
    """One engine in two runs, and the batch size where the figure has one."""

    before: Question
    after: Question


@dataclass(frozen=True)
class Change:
    """One figure that can become worse.

    Attributes:
        title: of its rows.
        unit: of the limit: a share of what it was before, or points lost.
        read: how much worse it became.
        timed: it depends on the device; else on the images.
        threaded: and on how many threads the engine had.
        batches: it has a row for each batch size.
    """

    title: str
    unit: Unit
    read: Callable[[Both], Reading]
    timed: bool
    threaded: bool = False
    batches: bool = False


@dataclass(frozen=True)
class Limit:
    """`KEY:LIMIT` of the command line."""

    key: str
    limit: float
    number: int


def parse_limits(text: str) -> list[Limit]:
    """`latency:5%,robust:2pt`.

    Raises:
        UsageError: no such figure (names the nearest), a limit that cannot be meant, or one figure twice.
    """
    found: dict[str, Limit] = {}
    for number, part in enumerate(text.split(","), 1):
        key, colon, limit = (word.strip() for word in part.partition(":"))
        if key not in CHANGES:
            raise UsageError(f"--fail-on {text}: {unknown('figure', key, CHANGES)}")
        if key in found:
            raise UsageError(f"--fail-on {text}: {key} is named twice")
        try:
            value = CHANGES[key].unit.parse(limit) if colon else None
        except ValueError as error:
            raise UsageError(f"--fail-on {text}: {key}: {error}") from error
        if value is None:
            raise UsageError(f"--fail-on {text}: {key} has no limit; expected {key}:{'5%' if CHANGES[key].unit is CHANGE else '2pt'}")
        found[key] = Limit(key, float(value), number)  # type: ignore[arg-type]
    return list(found.values())


def regressions(runs: Mapping[str, Run], limits: Sequence[Limit], *, unlike: bool) -> tuple[list[Requirement], Qualification]:
    """A row for each limit, engine and later run, each against the first run.

    Args:
        runs: what each is called -> the run, two or more.
        limits: what may become worse, and by how much.
        unlike: runs on other devices are compared all the same.

    Raises:
        UntrustedError: the runs are not alike; names the two values.
    """
    (base, before), *others = runs.items()
    read: list[tuple[str, str, Limit, Reading]] = []
    for name, after in others:
        for limit in limits:
            _check_alike(base, before, name, after, CHANGES[limit.key], unlike)
        read += [(name, *found) for found in _readings(before, after, limits)]
    sampled = sum(reading.bounds is not None for *_, reading in read)
    rule = Qualification(
        name=f"no worse than {base}", sha256="", confidence=CONFIDENCE, sampled=sampled, level=1 - (1 - CONFIDENCE) / max(sampled, 1)
    )
    return [_row(name, engine, limit, reading, rule) for name, engine, limit, reading in read], rule


def _check_alike(base: str, before: Run, name: str, after: Run, change: Change, unlike: bool) -> None:
    one, other = before.raw, after.raw
    if change.timed:
        sides = one.device, other.device
        pairs = {} if unlike else {"device": tuple(side.name for side in sides), "hardware": tuple(side.timed_on for side in sides)}
        if change.threaded and not unlike and all(side.timed_with for side in sides):
            pairs["setting"] = tuple(side.timed_with for side in sides)
        hint = " --unlike compares them all the same."
    else:
        pairs = {"data": (one.data.sha256[:12], other.data.sha256[:12]), "number of attacked images": (str(one.data.n), str(other.data.n))}
        hint = " Without the same images nothing can be paired."
    for what, (first, second) in pairs.items():
        if first != second:
            raise UntrustedError(
                f"the {change.title} of unlike runs is not compared: their {what} is {first} ({base}) and {second} ({name}).{hint}"
            )


def _readings(before: Run, after: Run, limits: Sequence[Limit]) -> Iterator[tuple[str, Limit, Reading]]:
    later = {engine.name: engine for engine in after.raw.engines}
    for engine in in_question(before.raw, []):
        for limit in limits:
            change = CHANGES[limit.key]
            batches = sorted(map(int, engine.latency)) if change.batches else [None]
            for batch in batches:
                label = engine.name if batch is None else f"{engine.name}, batch {batch}"
                if engine.name not in later:
                    yield label, limit, absent(f"The later run has no engine {engine.name}; it has {', '.join(later) or 'none'}.")
                    continue
                both = Both(_question(before, engine, batch), _question(after, later[engine.name], batch))
                yield label, limit, _read(change, both)


def _read(change: Change, both: Both) -> Reading:
    """The figure; absent where a file that it needs is damaged, or another than the record's."""
    try:
        return change.read(both)
    except UntrustedError as error:
        return absent(str(error))


def _question(run: Run, engine: EngineRecord, batch: int | None) -> Question:
    return Question(run, engine, [engine], {"batch": batch}, NAMES)


def _row(run: str, engine: str, limit: Limit, reading: Reading, rule: Qualification) -> Requirement:
    change = CHANGES[limit.key]
    bounds = None if reading.bounds is None else (reading.bounds(rule.confidence)[0], reading.bounds(rule.level)[1])
    result, reason = outcome(reading, "at_most", limit.limit, bounds, rule)
    value = reading.value if isinstance(reading.value, float) else None
    return Requirement(
        name=f"{change.title} worse in {run}",
        kind=limit.key,
        engine=engine,
        line=limit.number,
        side="at_most",
        unit=change.unit.base,  # type: ignore[arg-type]
        limit=limit.limit,
        observed=value,
        interval=bounds,
        outcome=result,
        reason=reason,
    )


def exit_code(rows: Sequence[Requirement]) -> int:
    """0 where nothing became worse by more than its limit, 1 where something did, 3 where that is open."""
    outcomes = {row.outcome for row in rows}
    return 1 if Outcome.FAIL in outcomes else 3 if outcomes - {Outcome.PASS} or not rows else 0


def _latency(both: Both) -> Reading:
    """Median latency, after / before - 1, with bounds from the medians of the rounds, which are not paired: another time, another load."""
    sides = [timing.calls_of(question) for question in (both.before, both.after)]
    calls = [side for side in sides if isinstance(side, timing.Calls)]
    if lacking := [side for side in sides if isinstance(side, Reading)]:
        return lacking[0]
    one, other = (np.log([np.median(part) for part in side.rounds()]) for side in calls)
    doubts = (timing.doubt(question, side.latency) for question, side in zip((both.before, both.after), calls, strict=True))
    doubt = next(filter(None, doubts), "")

    def bounds(confidence: float) -> Bounds:
        low, high = welch_bounds(other, one, confidence)
        return (None if low is None else float(np.expm1(low)), None if high is None else float(np.expm1(high)))

    value = float(np.expm1(other.mean() - one.mean()))
    return Reading(value, bounds, lambda _limit, _alpha: f"The rounds differ too much. {timing.QUIETER}", doubt=doubt)


def _ratio(figure: Callable[[EngineRecord], float | None], *, timed: bool) -> Callable[[Both], Reading]:
    """Of two single readings: after / before - 1."""

    def read(both: Both) -> Reading:
        for question in (both.before, both.after):
            reason = timing.no_time(question.run.raw, question.its) if timed else no_answer(question.its)
            if reason:
                return absent(reason)
        one, other = figure(both.before.its), figure(both.after.its)
        return (
            absent("It was not measured in both runs.")
            if not one or other is None
            else Reading(round(other / one - 1, EXACT), reason="Two readings.")
        )

    return read


def _clean(both: Both) -> Reading:
    return _lost(both, lambda question: question.run.matrix.right(question.its.name), "clean")


def _robust(both: Both) -> Reading:
    """Robust accuracy lost: the worst case of each run over its own sets, on the same images."""
    radii = [primary_radius(question) for question in (both.before, both.after)]
    if None in radii or radii[0] != radii[1]:
        return absent(f"The runs attack at other radii: {radii[0] or 'none'} and {radii[1] or 'none'}. Run both with the same --eps.")
    if not np.array_equal(both.before.run.matrix.index, both.after.run.matrix.index):
        return absent("The runs attack other images. Run both with the same --seed and --samples.")
    eps = Fraction(str(radii[0]))

    def worst(question: Question) -> Right:
        return question.run.matrix.worst_case(question.its.name, _sets(question, eps))

    reading = _lost(both, worst, "attacked")
    if reading.value is None:
        return reading
    before, after = ({_title(column) for column in _sets(question, eps)} for question in (both.before, both.after))
    return _as_attacked(reading, gone=sorted(before - after), new=sorted(after - before))


def _sets(question: Question, eps: Fraction) -> list[Column]:
    return deciding(question.run.matrix.columns, question.its.name, eps)


def _title(column: Column) -> str:
    return f"{column.record.source} {column.record.name} on {column.record.target} at {column.eps}"


def _as_attacked(reading: Reading, *, gone: Sequence[str], new: Sequence[str]) -> Reading:
    """Fewer attacks leave more images right, more leave fewer: without those of before nothing passes, with others nothing fails."""
    if reading.bounds is None or not (gone or new):
        return reading
    both_sides = reading.bounds

    def bounds(confidence: float) -> Bounds:
        low, high = both_sides(confidence)
        return (None if new else low, None if gone else high)

    parts = (("lacks attacks of the first", gone), ("has others than the first", new))
    said = "; ".join(f"{what}: {', '.join(names)}" for what, names in parts if names)
    return replace(reading, bounds=bounds, more=None, reason=f"The later run {said}. Run both with the same attacks, sources and tier.")


def _lost(both: Both, right: Callable[[Question], Right], what: str) -> Reading:
    """Accuracy before less accuracy after, image by image."""
    sides = (both.before, both.after)
    if reason := next(filter(None, (no_answer(question.its) for question in sides)), ""):
        return absent(reason)
    before, after = map(right, sides)
    return paired_loss(before, after, what, of_answers(both.before) or of_answers(both.after))


CHANGES: dict[str, Change] = {
    "latency": Change("median latency", CHANGE, _latency, timed=True, threaded=True, batches=True),
    "load": Change("load time", CHANGE, _ratio(lambda engine: engine.load_ms, timed=True), timed=True, threaded=True),
    "memory": Change("peak memory", CHANGE, _ratio(lambda engine: engine.memory.peak_bytes, timed=True), timed=True, threaded=True),
    "artefact": Change("artefact", CHANGE, _ratio(lambda engine: engine.memory.artefact_bytes, timed=False), timed=True),
    "clean": Change("clean accuracy", POINTS, _clean, timed=False),
    "robust": Change("robust accuracy", POINTS, _robust, timed=False),
}
