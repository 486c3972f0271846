"""What is measured of the engines: time in rounds, memory, evidence of what really runs. See also `measured` and `self_checks`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from devices.host.rounds import Timing, TimingPlan, time_in_rounds
from devices.host.rules import Environment, State, check_fields
from devices.host.session import EngineError, EngineId, EngineSession
from devices.worker.plain import printable
from devices.worker.spec import FRESH, FormatError
from harness.answers import Images
from harness.errors import UntrustedError
from harness.measurement.energy import most_turns
from harness.measurement.facts import Drive, Facts, Loose, Memory, Sampled
from harness.records import hardware
from harness.settings import Settings
from harness.stages.engines import Engine, Engines, Steps
from harness.stages.measured import FACTS, LOADGEN, MEASURED, TELEMETRY, Kept, Measured, check, load, save
from harness.stages.self_checks import self_checks
from harness.stages.subject import Subject

PEAK_SHARE = 20  # of the measuring time, for each figure


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
            save(_examine(engine, opened, timings.get(engine.id, {}), subject, settings, place), place)
        if engine.name in opened.sessions and engine.exported is not None:
            _only_asked(opened, engine.name)
        if engine.name in opened.failed:
            error = opened.failed[engine.name]
            save((Facts(status=error.status, error=str(error)), {}, {}), place)
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


def _examine(engine: Engine, opened: Engines, timings: dict[int, Timing], subject: Subject, settings: Settings, place: Path) -> Kept:
    """Everything but the timing, of one engine."""
    session = opened.sessions[engine.name]
    try:
        kept = _examined(engine, session, timings, subject, settings)
        check(kept, place, engine)
    except (EngineError, FormatError) as error:
        fault = error if isinstance(error, EngineError) else EngineError("crashed", f"what it says of itself cannot be used: {error}")
        _fail(opened, engine.name, fault)
        return Facts(status=fault.status, error=str(fault)), {}, {}
    return kept


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
    checks = self_checks(session, pool, answers, timings, own)
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
