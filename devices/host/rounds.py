"""Timing several engines in turns (A B C, B C A, …), so that a noisy machine, a warming board or a drifting clock is the same for all.

Knows sessions, no figures: every call is kept with the round that it was made in.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from devices.host.session import Calls, EngineError, EngineId, EngineSession

Progress = Callable[[str, int, int], None]

ROUNDS = 10
WINDOW_S = 0.1
WINDOW_CALLS = 5
WINDOWS = 3
AGREE = 0.10
SETTLE_S, SETTLE_CALLS = 0.02, 2  # at the begin of a turn, at least: the processor slept, and the caches hold another engine's weights
OWN_REST_S = 0.1  # see `devices.worker.timing.until_idle`
MOST_CALLS = 20_000  # in one request
MOST_WARMUP = 1_000_000  # calls: an engine may claim that they take no time


@dataclass(frozen=True)
class TimingPlan:
    """What is timed, and for how long.

    Attributes:
        batches: batch sizes, each timed by itself.
        measure_s: seconds for each engine and batch size, over all rounds.
        warmup_floor_s, warmup_cap_s: the warm-up lasts at least the floor, then until three windows agree, at most until the cap.
        rounds: turns that each engine gets.
        seed: of the order within the rounds.
    """

    batches: tuple[int, ...] = (1, 8, 32)
    measure_s: float = 2.0
    warmup_floor_s: float = 0.5
    warmup_cap_s: float = 10.0
    rounds: int = ROUNDS
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Timing:
    """Every call of one engine at one batch size, in nanoseconds. The calls before the measurement are kept too.

    Attributes:
        latency_ns: int64 (n,), the measured calls in order.
        round: int16 (n,), in which round each was made.
        warmup_ns: int64 (m,), the calls of the warm-up.
        stable: whether three windows agreed before the warm-up's cap.
        parts_ns: part of a call (`host_to_device`, `compute`, `device_to_host`) -> int64 (n,), by the device's own events; empty where
            the engine has no memory of its own.
        start_ns: int64 (n,), when each measured call began, on the clock of the telemetry; empty where that is not known.
    """

    latency_ns: NDArray[np.int64]
    round: NDArray[np.int16]
    warmup_ns: NDArray[np.int64]
    stable: bool
    parts_ns: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    start_ns: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


class _Done(BaseModel):
    """An answer without content."""


def time_in_rounds(
    sessions: Mapping[EngineId, EngineSession], plan: TimingPlan, progress: Progress, between: Callable[[], None] = lambda: None
) -> tuple[dict[EngineId, dict[int, Timing]], dict[EngineId, EngineError]]:
    """Time every session at every batch size; engines take turns in an order that is drawn anew for each round.

    Args:
        sessions: open, their pools set.
        plan: how long.
        progress: called with step, done, total.
        between: called before each round, while nothing is timed; the first calls of a turn, which do not count, come after it.

    Returns:
        the timings of those that lasted, and what the others did wrong: one engine's fault stops no other.
    """
    order = random.Random(plan.seed)  # noqa: S311 - an order, no secret
    failed: dict[EngineId, EngineError] = {}
    timings: dict[EngineId, dict[int, Timing]] = {engine: {} for engine in sessions}
    for batch in order.sample(plan.batches, len(plan.batches)):
        turns = {}
        for engine, session in sessions.items():
            if engine not in failed:
                with _keeping(failed, engine):
                    turns[engine] = _Turns(session, batch, plan)
        for number in range(plan.rounds):
            between()
            progress(f"latency, batch {batch}", number, plan.rounds)
            for engine in order.sample(list(turns), len(turns)):
                if engine not in failed:
                    with _keeping(failed, engine):
                        turns[engine].take()
        for engine, turn in turns.items():
            if engine not in failed:
                timings[engine][batch] = turn.timing()
        progress(f"latency, batch {batch}", plan.rounds, plan.rounds)
    return {engine: found for engine, found in timings.items() if engine not in failed}, failed


class _keeping:  # noqa: N801 - used as a statement
    """Keeps an engine's error instead of raising it."""

    def __init__(self, failed: dict[EngineId, EngineError], engine: EngineId) -> None:
        self._failed, self._engine = failed, engine

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, value: BaseException | None, trace: object) -> bool:
        if isinstance(value, EngineError):
            self._failed[self._engine] = value
            return True
        return False


class _Turns:
    """One engine at one batch size: warmed up at construction, then a turn in each round."""

    def __init__(self, session: EngineSession, batch: int, plan: TimingPlan) -> None:
        self._session, self._batch = session, batch
        if session.loaded.plan_sha256:
            session.call({"op": "cool"}, _Done, session.limits.load_s)
        self._warmup, took_ns, self.stable = self._warm_up(plan)
        self._rest()
        median_s = max(float(np.median(self._warmup[-WINDOW_CALLS:])), took_ns) / 1e9
        self._repeats, self._settle = (
            max(min(math.ceil(seconds / median_s), MOST_CALLS), least)
            for seconds, least in ((plan.measure_s / plan.rounds, 1), (SETTLE_S, SETTLE_CALLS))
        )
        self._rounds: list[Calls] = []

    def take(self) -> None:
        """One round's calls, after a few that do not count. It ends when the engine's threads sleep: the next turn is another's."""
        self._session.measure(self._batch, self._settle)
        self._rounds.append(self._session.measure(self._batch, self._repeats))
        self._rest()

    def _rest(self) -> None:
        """Wait until the engine's threads sleep. A user's own engine cannot be asked; it gets the time that onnxruntime's need."""
        if self._session.loaded.plan_sha256:
            self._session.call({"op": "idle"}, _Done, self._session.limits.load_s)
        else:
            time.sleep(OWN_REST_S)

    def timing(self) -> Timing:
        """All calls so far."""
        names = [name for name in self._rounds[0].parts if all(name in calls.parts for calls in self._rounds)]
        starts = [calls.start_ns for calls in self._rounds]
        return Timing(
            latency_ns=np.concatenate([calls.ns for calls in self._rounds]),
            round=np.repeat(np.arange(len(self._rounds), dtype=np.int16), [len(calls.ns) for calls in self._rounds]),
            warmup_ns=np.array(self._warmup, np.int64),
            stable=self.stable,
            parts_ns={name: np.concatenate([calls.parts[name] for calls in self._rounds]) for name in names},
            start_ns=np.concatenate(starts) if all(len(start) for start in starts) else np.empty(0, np.int64),
        )

    def _timed(self, repeats: int) -> tuple[NDArray[np.int64], float]:
        """Calls, and the nanoseconds that each took here, where no clock but a user's own engine's counts them; else 0.

        It may count microseconds: what is planned by them would last a thousand times as long.
        """
        start = time.perf_counter_ns()
        ns = self._session.measure(self._batch, repeats).ns
        here = (time.perf_counter_ns() - start) / repeats
        return ns, 0.0 if self._session.loaded.plan_sha256 else here

    def _warm_up(self, plan: TimingPlan) -> tuple[list[int], float, bool]:
        """Call for the floor, then until the medians of the last three windows agree within 10 %, at most until the cap.

        Returns the calls, what one of the last took here (see `_timed`), and whether they agreed.
        """
        window, took_ns = self._timed(1)
        calls, spent_s = window.tolist(), max(float(window[0]), took_ns) / 1e9
        medians: list[float] = []
        while True:
            repeats = max(WINDOW_CALLS, min(round(WINDOW_S * 1e9 / max(calls[-1], took_ns)), MOST_CALLS))
            window, took_ns = self._timed(repeats)
            calls += window.tolist()
            medians = [*medians[1 - WINDOWS :], float(np.median(window))]
            spent_s += max(float(window.sum()), took_ns * repeats) / 1e9
            stable = len(medians) == WINDOWS and max(medians) <= min(medians) * (1 + AGREE)
            if (stable and spent_s >= plan.warmup_floor_s) or spent_s >= plan.warmup_cap_s or len(calls) >= MOST_WARMUP:
                return calls, took_ns, stable
