"""What is measured of the engines: time in rounds, memory, evidence of what really runs, and the measurement against itself."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from devices.host.arrays import read_npz
from devices.host.rounds import Timing, TimingPlan, time_in_rounds
from devices.host.rules import Environment, State, check_fields, check_peaks, check_telemetry
from devices.host.session import EngineError, EngineId, EngineSession
from devices.worker.plain import printable, read_json
from devices.worker.spec import FRESH, FormatError
from devices.worker.telemetry.series import Telemetry, read_arrays
from harness.answers import Images, Index, Logits
from harness.audit.scale import allowed
from harness.errors import NO_ARRAYS, UntrustedError
from harness.limits import LIMITS
from harness.measurement.energy import most_turns
from harness.measurement.facts import Checks, Drive, Facts, Information, Loose, Memory, Sampled
from harness.records import hardware
from harness.settings import Settings
from harness.stages.engines import Engine, Engines, Steps
from harness.stages.subject import Subject

MEASURED = "measured"  # folder of raw results in a run
FACTS = "facts.json"
TELEMETRY = "telemetry.npz"
LOADGEN = "loadgen"
REPEATS = 3  # passes over the same images
PAIRS, PAIR_CALLS = 20, 5  # of the test for remembered answers
QUICK = 0.1  # share of the requests of a user's own engine that are quick
CLOCKED_NS, MOST_CLOCKED = 50e6, 10_000  # of calls on an engine's own clock that are held against the wall's, and how many at most
BYTE_NS = 10  # that the way of a byte and its conversion to float32 may take: a hundredth of a second for a megabyte
PEAK_SHARE = 20  # of the measuring time, for each figure


class _Timed(Loose):
    offsets: list[int]


class _Evidence(Loose):
    equal: bool | None


class _Rest(Loose):
    telemetry: Sampled | None
    after: dict[str, Any]
    machine: dict[str, Any]


class _Done(Loose):
    pass


class _Driven(Loose):
    drive: Drive | None = None
    absent: str = ""


class _Peaks(Loose):
    peaks: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Measured:
    """One engine's raw results. `folder` holds its files.

    Attributes:
        timings: batch size -> calls.
        telemetry: what was sampled beside the timing; None where nothing was.
    """

    engine: Engine
    facts: Facts
    folder: Path
    timings: dict[int, Timing] = field(default_factory=dict)
    telemetry: Telemetry | None = None

    @property
    def ok(self) -> bool:
        """Whether it answers and was measured."""
        return self.facts.status == "ok"


def measure(opened: Engines, subject: Subject, settings: Settings, folder: Path) -> list[Measured]:
    """Measure every open engine, those that can be timed in rounds; what an earlier process measured is read back.

    An engine that fails meanwhile is closed, and its fault is its result.

    Raises:
        UntrustedError: an earlier process measured on another machine.
    """
    fresh = _fresh(opened, subject, settings, folder)
    sessions = {e.id: opened.sessions[name] for name, e in fresh.items()}
    timings = _time(sessions, fresh, opened, subject, settings)
    found = []
    for engine in opened.all:
        place = folder / MEASURED / engine.name
        if engine.name in fresh and engine.name in opened.sessions:
            _save(_examine(engine, opened, timings.get(engine.id, {}), subject, settings, place), place)
        if engine.name in opened.sessions and engine.exported is not None:
            _only_asked(opened, engine.name)
        if engine.name in opened.failed:
            error = opened.failed[engine.name]
            _save((Facts(status=error.status, error=str(error)), {}, {}), place)
        found.append(load(engine, place))
    return found


def _only_asked(opened: Engines, name: str) -> None:
    """Let an engine of which all is measured wait for questions without keeping a processor busy."""
    try:
        opened.sessions[name].call({"op": "only_asked"}, _Done, opened.sessions[name].limits.load_s)
    except EngineError as error:
        _fail(opened, name, error)


def _fresh(opened: Engines, subject: Subject, settings: Settings, folder: Path) -> dict[str, Engine]:
    """The open engines, by name, that no earlier process measured to the end; those that are timed all, where one of them lacks.

    They are held against each other round by round, and what other programs did meanwhile is told of them all: times that were taken
    apart are no measurement. What is kept of those that are measured anew is removed. Raises UntrustedError as `measure`.
    """
    there = [e for e in opened.all if e.name in opened.sessions]
    lacking = {e.name for e in there if not _done(folder, e, opened.sessions[e.name])}
    timed = {e.name for e in there if _is_timed(e, subject, settings)}
    if timed & lacking:
        lacking |= timed
    for name in lacking:
        (folder / MEASURED / name / FACTS).unlink(missing_ok=True)
    return {e.name: e for e in there if e.name in lacking}


def _is_timed(engine: Engine, subject: Subject, settings: Settings) -> bool:
    """Whether its time is that of what was asked for."""
    return bool(settings.batches) and not (engine.simulated or engine.variant or subject.profile.emulated)


def _done(folder: Path, engine: Engine, session: EngineSession) -> bool:
    """Whether an earlier process measured this very plan. Raises UntrustedError: on another machine."""
    try:
        facts = load(engine, folder / MEASURED / engine.name).facts
    except UntrustedError:
        return False
    if facts.status != "ok" or facts.plan_sha256 != session.plan_sha256:
        return False
    try:
        was, now_is = (_machine(environment, state) for environment, state in ((facts.environment, facts.before), _said(session)))
    except FormatError:
        return False  # whoever measures it anew says what is wrong
    if was != now_is:
        raise UntrustedError(
            f"{engine.name} was measured on another machine ({was or 'unknown'}) than this one ({now_is or 'unknown'}): times and answers "
            "of two machines must not be mixed. Go on there, or start a new run."
        )
    return True


def _said(session: EngineSession) -> tuple[dict[str, Any], dict[str, Any]]:
    return session.loaded.environment, session.loaded.before


def _machine(environment: dict[str, Any], state: dict[str, Any]) -> str:
    """Which one it is by its own words. Raises FormatError: they are not of the right form."""
    check_fields("environment", environment, Environment)
    check_fields("before", state, State)
    return hardware({**state, **environment})


def _time(
    sessions: Mapping[EngineId, EngineSession], engines: Mapping[str, Engine], opened: Engines, subject: Subject, settings: Settings
) -> dict[EngineId, dict[int, Timing]]:
    """The timings, in rounds over all engines that can be timed here; those that fail are moved to `opened.failed`."""
    timed = {i: s for i, s in sessions.items() if _is_timed(engines[str(i)], subject, settings)}
    if not timed:
        return {}
    plan = settings.plan
    pool = _pool(subject, max(settings.batches))
    with Steps("engines in turns") as steps:
        for engine, session in list(timed.items()):
            try:
                session.set_pool(pool)
            except EngineError as error:
                _fail(opened, str(engine), error)
                del timed[engine]
        sensors = subject.profile.telemetry
        rounds = min(plan.rounds, most_turns(plan.measure_s, sensors.period_ms)) if sensors.rails else plan.rounds
        in_turns = TimingPlan(settings.batches, plan.measure_s, plan.warmup_s, rounds=rounds, seed=settings.seed)
        found, failed = time_in_rounds(timed, in_turns, steps, opened.look)
    for name, fault in failed.items():
        _fail(opened, str(name), fault)
    return found


def _fail(opened: Engines, name: str, error: EngineError) -> None:
    opened.failed[name] = error
    opened.sessions.pop(name).close(wait=False)


def _pool(subject: Subject, largest: int) -> Images:
    """Images for timed calls: as many different inputs as the worker takes in turn."""
    images = subject.test.images
    return np.ascontiguousarray(images[np.arange(largest + FRESH - 1) % len(images)])


Kept = tuple[Facts, dict[int, Timing], dict[str, bytes]]


def _examine(engine: Engine, opened: Engines, timings: dict[int, Timing], subject: Subject, settings: Settings, place: Path) -> Kept:
    """Everything but the timing, of one engine."""
    session = opened.sessions[engine.name]
    try:
        kept = _examined(engine, session, timings, subject, settings)
        _check(kept, place, engine)
    except (EngineError, FormatError) as error:
        fault = error if isinstance(error, EngineError) else EngineError("crashed", f"what it says of itself cannot be used: {error}")
        _fail(opened, engine.name, fault)
        return Facts(status=fault.status, error=str(fault)), {}, {}
    return kept


def _check(kept: Kept, place: Path, engine: Engine) -> None:
    """Raise FormatError or EngineError unless what came from the device is of the right form."""
    facts, _, files = kept
    check_fields("environment", facts.environment, Environment)
    check_fields("before", facts.before, State)
    check_fields("after", facts.after, State)
    check_peaks(facts.peaks)
    for name in files:
        safe_name(name)
    if engine.runtime == "tensorrt" and not engine.simulated and facts.graph is not None:  # a simulated one leaves an ONNX graph
        information(files[facts.graph])
    if facts.sampled is not None:
        place.mkdir(parents=True, exist_ok=True)
        (place / TELEMETRY).write_bytes(files[TELEMETRY])
        _telemetry(facts.sampled, place)


def information(raw: bytes) -> Information:
    """What a TensorRT engine says of itself. Raises FormatError: not of the right form."""
    try:
        return Information.model_validate(read_json(raw))
    except ValueError as error:
        raise FormatError(f"the engine information is damaged: {printable(str(error))}") from error


def _examined(engine: Engine, session: EngineSession, timings: dict[int, Timing], subject: Subject, settings: Settings) -> Kept:
    loaded = session.loaded
    files: dict[str, bytes] = {}
    own = engine.exported is None
    memory = Memory() if own else session.call({"op": "memory"}, Memory)[0]
    rest = _Rest(telemetry=None, after={}, machine={}) if own else None
    drive = None
    if not own:
        if settings.scenario and timings:
            driven, logs = session.call(
                {"op": "loadgen", "scenario": settings.scenario, "seconds": settings.plan.measure_s}, _Driven, session.limits.load_s
            )
            drive = driven.drive
            files |= {f"{LOADGEN}/{name}": raw for name, raw in logs.items()}
            if drive is None:
                print(f"harness: LoadGen did not drive {engine.name}: {printable(driven.absent)}", file=sys.stderr)
        rest, samples = session.call({"op": "rest"}, _Rest, session.limits.load_s)
        if rest.telemetry is not None:
            files[TELEMETRY] = samples.get("telemetry", b"")
    pool = _pool(subject, max(settings.batches, default=1))
    answers = session.logits(pool)
    checks = _checks(session, pool, answers, timings, own)
    graph, peaks = None, {}
    if not own:
        if not timings:
            session.set_pool(pool)
        evidence, graphs = session.call({"op": "evidence"}, _Evidence, session.limits.load_s)
        checks = checks.model_copy(update={"graph_equal": evidence.equal})
        graph = next(iter(graphs), None)
        files |= graphs
        if timings:
            peaks = session.call({"op": "peaks", "seconds": settings.plan.measure_s / PEAK_SHARE}, _Peaks)[0].peaks
    assert rest is not None  # noqa: S101 - set on both ways
    facts = Facts(
        status="ok",
        runtime_version=session.hello.version,
        options=loaded.options,
        plan_sha256=session.plan_sha256,
        labels_only=session.hello.output == "labels",
        environment=loaded.environment | rest.machine,
        load_ns=loaded.load_ns,
        first_ns=loaded.first_ns,
        synthetic=loaded.synthetic,
        memory=memory,
        checks=checks,
        graph=graph,
        peaks=peaks,
        drive=drive,
        before=loaded.before,
        after=rest.after,
        sampled=rest.telemetry,
        stable={batch: timing.stable for batch, timing in timings.items()},
    )
    return facts, timings, files


def _checks(session: EngineSession, pool: Images, answers: Logits, timings: Mapping[int, Timing], own: bool) -> Checks:
    head = pool[: session.batch]
    passes = [answers[: session.batch], *(session.logits(head) for _ in range(REPEATS))]
    same = all(np.array_equal(once, passes[0]) for once in passes)
    if not timings:
        return Checks(deterministic=same, repeats=REPEATS)
    if own:
        clock = None
        if session.hello.measure:
            clock = _own_clock(session, timings)
            clock = clock if clock > 1 else min(clock, _own_work(session, pool))
        found = Checks(repeated_to_fresh_latency=_remembers(session, pool), own_clock=clock, deterministic=same, repeats=REPEATS)
        if not session.timed:  # its own clock's calls give no answers
            return found
        parts = [(logits, _places(first, len(logits), len(answers))) for kept in session.timed.values() for first, logits in kept.items()]
        error = max(float(np.abs(logits - answers[rows]).max()) for logits, rows in parts)
        equal = _equal(error, answers, LIMITS.fresh_error)
        return found.model_copy(update={"timed_max_logit_error": error, "timed_outputs_equal_accuracy_outputs": equal})
    error = max(_timed_error(session, batch, answers) for batch in timings)
    again, new = [], []
    for _ in range(PAIRS):
        again.append(int(session.measure(1, PAIR_CALLS, same=True).ns.min()))
        new.append(int(session.measure(1, PAIR_CALLS).ns.min()))
    return Checks(
        timed_max_logit_error=error,
        timed_outputs_equal_accuracy_outputs=_equal(error, answers, LIMITS.logit_error),
        repeated_to_fresh_latency=min(again) / min(new),
        deterministic=same,
        repeats=REPEATS,
    )


def _equal(error: float, answers: Logits, limit: float) -> bool:
    """Whether timed answers at most `error` from the untimed ones, float (n, classes), are the same: within a share of the largest."""
    return error <= allowed(limit, answers)


def _places(first: int, batch: int, n: int) -> Index:
    """Of the images of a timed call among the pool's n."""
    return np.arange(first, first + batch) % n


def _remembers(session: EngineSession, pool: Images) -> float:
    """Of a user's own engine: the time of a request that it has answered before, over that of images which nobody has seen.

    Those are shifted, so that they are far from all that it was shown: a memory may take what is nearly the same for the same. Each of the
    two comes first in half of the turns, as an engine that has waited for a request answers it later. Held against each other are the times
    that a tenth of the requests keep to: the fastest of all is a matter of luck.
    """
    draw, known = np.random.default_rng(0), pool[:1]
    again: list[int] = []
    new: list[int] = []
    for turn in range(PAIRS * PAIR_CALLS):
        shifts = [int(draw.integers(1, max(side, 2))) for side in pool.shape[1:3]]
        unseen = np.roll(pool[turn % len(pool)][None], shifts, axis=(1, 2)) ^ draw.integers(0, 4, known.shape, np.uint8)
        both = [(again, known), (new, unseen)]
        for times, images in both if turn % 2 else reversed(both):
            times.append(_request_ns(session, images))
    return float(np.quantile(again, QUICK) / np.quantile(new, QUICK))


def _own_clock(session: EngineSession, timings: Mapping[int, Timing]) -> float:
    """What an engine's own clock says of its calls, over what passes here: the time of more calls, less that of fewer, in one request.

    The largest of some, at most 1, as other work makes time pass here; where even the smallest is too large, that one.
    """
    batch = min(timings)
    calls = max(PAIR_CALLS, min(round(CLOCKED_NS / float(np.median(timings[batch].latency_ns))), MOST_CLOCKED))
    shares = []
    for _ in range(PAIR_CALLS):
        told, passed = [], []
        for repeats in (1, 1 + calls):
            start = time.perf_counter_ns()
            told.append(int(session.measure(batch, repeats).ns.sum()))
            passed.append(time.perf_counter_ns() - start)
        shares.append((told[1] - told[0]) / max(passed[1] - passed[0], 1))
    return min(shares) if min(shares) > 1 / LIMITS.own_clock else min(max(shares), 1.0)


def _own_work(session: EngineSession, pool: Images) -> float:
    """What an engine's own clock says that further images of a call take, over what they take where their answers are asked for: it may
    do less where it only times itself. The way and the conversion of the bytes, which its clock need not count, are taken off.
    """
    some, many = pool[:1], pool[: max(min(len(pool), session.batch), 2)]
    told: dict[int, int] = {}
    asked: dict[int, int] = {}
    for images in (some, many):
        asked[len(images)] = min(_request_ns(session, images) for _ in range(PAIRS))
        told[len(images)] = min(int(session.measure(len(images), PAIR_CALLS).ns.min()) for _ in range(PAIR_CALLS))
    of_bytes = (many.nbytes - some.nbytes) * BYTE_NS
    further = asked[len(many)] - asked[1] - of_bytes
    return min((told[len(many)] - told[1]) / further, 1.0) if further > max(of_bytes, asked[len(many)] / 2) else 1.0


def _request_ns(session: EngineSession, images: Images) -> int:
    start = time.perf_counter_ns()
    session.logits(images)
    return time.perf_counter_ns() - start


def _timed_error(session: EngineSession, batch: int, answers: Logits) -> float:
    """Largest difference between the answers to timed calls and the untimed pass over the same images."""
    header, files = session.call({"op": "timed", "batch": batch}, _Timed)
    raw, classes = files.get("logits", b""), session.hello.classes
    expected = 4 * len(header.offsets) * batch * classes
    if len(raw) != expected or not all(0 <= offset < len(answers) for offset in header.offsets):
        raise EngineError("crashed", f"it returned {len(raw)} bytes of logits; expected {expected} of {len(header.offsets)} timed calls")
    if not raw:
        return 0.0
    timed = np.frombuffer(raw, "<f4").reshape(-1, classes)
    if not np.isfinite(timed).all():
        raise EngineError("nan", "the logits of its timed calls are not finite")
    rows = np.concatenate([_places(offset, batch, len(answers)) for offset in header.offsets])
    return float(np.abs(timed - answers[rows]).max())


def _save(kept: Kept, place: Path) -> None:
    """Keep one engine's results; the facts come last, so that what is there is whole."""
    facts, timings, files = kept
    place.mkdir(parents=True, exist_ok=True)
    for batch, timing in timings.items():
        with (place / f"b{batch}.npz").open("wb") as file:
            np.savez_compressed(file, **timing_arrays(timing))
    for name, raw in files.items():
        path = place / safe_name(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(raw)
    temporary = place / f"{FACTS}.tmp"
    temporary.write_text(facts.model_dump_json(indent=1), encoding="utf-8")
    temporary.replace(place / FACTS)


def safe_name(name: str) -> str:
    """A file's name from a device, which may not leave its folder.

    Raises:
        EngineError: it could.
    """
    parts = name.split("/")
    if len(parts) > 2 or any(
        not part or part.startswith(".") or not part.replace("-", "_").replace(".", "_").isidentifier() for part in parts
    ):
        raise EngineError("crashed", f"it offers a file named {name[:60]!r}, which is refused")
    return name


def load(engine: Engine, place: Path) -> Measured:
    """What was kept of one engine.

    Raises:
        UntrustedError: missing or damaged.
    """
    try:
        facts = Facts.model_validate_json((place / FACTS).read_bytes())
        timings = {batch: _read_timing(place / f"b{batch}.npz", stable) for batch, stable in facts.stable.items()}
        telemetry = None
        if facts.sampled is not None:
            telemetry = _telemetry(facts.sampled, place)
    except (OSError, *NO_ARRAYS) as error:
        raise UntrustedError(f"the measurement of {engine.name} in {place} is missing or damaged: {error}. Run again.") from error
    return Measured(engine, facts, place, timings, telemetry)


def _telemetry(sampled: Sampled, place: Path) -> Telemetry:
    """The samples that came from the device. Raises FormatError, a ValueError: not of the right form."""
    series = read_arrays(read_npz(place / TELEMETRY))
    telemetry = Telemetry(sampled.period_ms, sampled.cpu_share, (sampled.idle_ns[0], sampled.idle_ns[1]), series, sampled.absent)
    check_telemetry(telemetry)
    return telemetry


def timing_arrays(timing: Timing) -> dict[str, Any]:
    """A timing as the arrays of its .npz file, and `NAME_part_ns` for each part of a call."""
    parts = {f"{name}_part_ns": values for name, values in timing.parts_ns.items()}
    return {"latency_ns": timing.latency_ns, "round": timing.round, "start_ns": timing.start_ns, "warmup_ns": timing.warmup_ns, **parts}


def _read_timing(path: Path, stable: bool) -> Timing:
    with np.load(path, allow_pickle=False) as arrays:
        parts = {name.removesuffix("_part_ns"): arrays[name] for name in arrays.files if name.endswith("_part_ns")}
        return Timing(arrays["latency_ns"], arrays["round"], arrays["warmup_ns"], stable, parts, arrays["start_ns"])
