"""Timing in turns, with engines whose every call lasts exactly as long as the test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, cycle, islice, pairwise, repeat
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from devices.host import rounds
from devices.host.rounds import SETTLE_CALLS, SETTLE_S, Timing, TimingPlan, time_in_rounds
from devices.host.session import Calls, EngineError, EngineId, EngineSession, Limits

MS = 1_000_000
SETTLE = round(1000 * SETTLE_S)  # calls of a millisecond
A, B, C = EngineId("a"), EngineId("b"), EngineId("c")
PLAN = TimingPlan(batches=(1,), measure_s=0.1, warmup_floor_s=0.0, warmup_cap_s=5.0, rounds=10)
NOTHING = np.empty(0, np.int64)


@dataclass
class Engine:
    """Stands in a session's place: durations in milliseconds, one after the other; `log` has every request of all engines in order."""

    id: EngineId
    durations_ms: Iterator[float]
    log: list[tuple[EngineId, int, int]] = field(default_factory=list)
    worker: bool = True
    fails_at: int | None = None  # request
    extra: Callable[[int, int], dict[str, Any]] = lambda request, repeats: {}
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        self.loaded = SimpleNamespace(plan_sha256="0" * 64 if self.worker else "")
        self.requests, self.told = 0, list[str]()

    def call(self, said: dict[str, Any], kind: type[Any], limit_s: float) -> tuple[Any, dict[str, bytes]]:
        self.told.append(said["op"])
        self.log.append((self.id, 0, 0))
        return kind(), {}

    def measure(self, batch: int, repeats: int) -> Calls:
        self.requests += 1
        if self.requests == self.fails_at:
            raise EngineError("crashed", f"{self.id} fell over")
        self.log.append((self.id, batch, repeats))
        ns = np.array([round(value * MS) for value in islice(self.durations_ms, repeats)], np.int64)
        return Calls(**{"ns": ns, "start_ns": NOTHING, "parts": {}, **self.extra(self.requests, repeats)})


def timed(*engines: Engine, plan: TimingPlan = PLAN) -> tuple[dict[EngineId, dict[int, Timing]], dict[EngineId, EngineError]]:
    sessions = {engine.id: cast(EngineSession, engine) for engine in engines}
    return time_in_rounds(sessions, plan, lambda step, done, total: None)


def warm_up(durations_ms: Iterator[float], plan: TimingPlan) -> Timing:
    found, failed = timed(Engine(A, durations_ms), plan=plan)
    assert failed == {}
    return found[A][plan.batches[0]]


# The warm-up


def test_warm_up_lasts_its_floor_even_when_stable() -> None:
    timing = warm_up(repeat(10.0), TimingPlan((1,), 0.1, warmup_floor_s=0.8, warmup_cap_s=5.0))
    assert timing.stable
    assert 800 * MS <= timing.warmup_ns.sum() <= 900 * MS


def test_warm_up_goes_on_until_three_windows_agree() -> None:
    # One call of 20 ms, then windows of 0.1 s by the last call: 5 calls of 20 ms, 5 of 12.5 ms, 8 and 10 of 10 ms, ...
    timing = warm_up(chain(repeat(20.0, 6), repeat(12.5, 5), repeat(10.0)), PLAN)
    assert timing.stable
    assert (timing.warmup_ns / MS).tolist() == [20.0] * 6 + [12.5] * 5 + [10.0] * (8 + 10 + 10)


@pytest.mark.parametrize(("step", "stable"), [(1.09, True), (1.11, False)])
def test_windows_agree_within_10_percent(step: float, stable: bool) -> None:
    """Windows of 5 calls: 100, 100 and 100 x step, which ends the warm-up only if it is near enough; the cap comes right after."""
    durations = chain(repeat(100.0, 11), repeat(100.0 * step, 5), repeat(500.0))
    assert warm_up(durations, TimingPlan((1,), 0.1, 0.0, warmup_cap_s=1.6)).stable is stable


def test_warm_up_stops_at_its_cap_and_says_so() -> None:
    timing = warm_up((4 * 1.5**step for step in range(64)), TimingPlan((1,), 0.1, 0.0, warmup_cap_s=1.0))
    assert not timing.stable
    assert timing.warmup_ns.sum() >= 1000 * MS


def test_a_slow_engine_is_still_called_five_times_a_window() -> None:
    timing = warm_up(repeat(900.0), TimingPlan((1,), 0.1, warmup_floor_s=0.5, warmup_cap_s=20.0))
    assert timing.stable
    assert len(timing.warmup_ns) == 1 + 3 * 5


def test_calls_that_claim_to_take_no_time_do_not_go_on_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "MOST_CALLS", 100)
    monkeypatch.setattr(rounds, "MOST_WARMUP", 1000)
    timing = warm_up(repeat(1e-6), TimingPlan((1,), 0.1, warmup_floor_s=0.5, warmup_cap_s=10.0, rounds=2))
    assert len(timing.warmup_ns) == 1001
    assert len(timing.latency_ns) == 200


def test_an_own_engine_whose_clock_counts_too_little_is_not_called_the_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of a millisecond, told in microseconds: it was called a thousand times as often as planned, for hours, or was hung."""
    now = [0]
    monkeypatch.setattr(rounds, "time", SimpleNamespace(perf_counter_ns=lambda: now[0], sleep=lambda seconds: None))

    class Slow(Engine):
        def measure(self, batch: int, repeats: int) -> Calls:
            now[0] += repeats * MS
            return super().measure(batch, repeats)

    engine = Slow(A, repeat(0.001), worker=False)
    found, failed = timed(engine)
    assert failed == {}
    assert max(repeats for _, _, repeats in engine.log) == 100, "a window of the warm-up lasts a tenth of a second"
    assert len(found[A][1].latency_ns) == 100
    assert len(found[A][1].warmup_ns) == 1 + 3 * 100


# The rounds


def test_every_engine_gets_its_turn_in_every_round_and_each_call_keeps_its_round() -> None:
    log: list[tuple[EngineId, int, int]] = []
    engines = [Engine(engine, repeat(value), log) for engine, value in ((A, 1.0), (B, 2.0), (C, 5.0))]
    found, failed = timed(*engines)
    assert failed == {}
    for engine, calls in ((A, 10), (B, 5), (C, 2)):  # 0.1 s over 10 rounds
        timing = found[engine][1]
        assert timing.round.dtype == np.int16
        assert timing.round.tolist() == [number for number in range(10) for _ in range(calls)]
        assert (timing.latency_ns.dtype, timing.latency_ns.shape) == (np.int64, (10 * calls,))
        assert timing.start_ns.size == 0 and timing.parts_ns == {}
    # a turn's request has as many calls as fit into it, the windows of the warm-up have more
    assert [sum(e == engine and repeats == calls for e, _, repeats in log) for engine, calls in ((A, 10), (B, 5))] == [10, 10]


def test_measured_values_are_exactly_the_calls_without_those_that_settle() -> None:
    """Each turn's first calls are slow: another engine's weights were in the caches."""
    turn = [50.0] * SETTLE_CALLS + [float(value) for value in range(10, 11)]
    found, _ = timed(Engine(A, chain(repeat(10.0, 31), cycle(turn))), plan=TimingPlan((1,), 0.1, 0.0, 5.0, rounds=10))
    assert len(found[A][1].warmup_ns) == 31
    assert found[A][1].latency_ns.tolist() == [10 * MS] * 10


def test_the_order_is_drawn_anew_in_each_round_and_by_the_seed() -> None:
    def orders(seed: int) -> list[tuple[str, ...]]:
        log: list[tuple[EngineId, int, int]] = []
        engines = [Engine(EngineId(name), repeat(1.0), log) for name in "abcd"]
        timed(*engines, plan=TimingPlan((1,), 0.2, 0.0, 5.0, rounds=20, seed=seed))
        turns = [engine.flavour for engine, _, repeats in log if repeats == SETTLE]
        return [tuple(turns[i : i + 4]) for i in range(0, len(turns), 4)]

    first = orders(0)
    assert len(first) == 20
    assert all(sorted(order) == list("abcd") for order in first)
    assert len(set(first)) > 5
    assert orders(0) == first != orders(1)


def test_batch_sizes_are_timed_one_by_one_each_with_a_warm_up_of_its_own() -> None:
    log: list[tuple[EngineId, int, int]] = []
    engines = [Engine(A, repeat(1.0), log), Engine(B, repeat(1.0), log)]
    steps: list[tuple[str, int, int]] = []
    sessions = {engine.id: cast(EngineSession, engine) for engine in engines}
    found, _ = time_in_rounds(sessions, TimingPlan((1, 8, 32), 0.1, 0.0, 5.0), lambda *step: steps.append(step))
    assert [sorted(found[engine]) for engine in (A, B)] == [[1, 8, 32]] * 2
    sizes = [batch for _, batch, _ in log if batch]
    assert sum(a != b for a, b in pairwise(sizes)) == 2
    assert all(engine.told.count("cool") == 3 for engine in engines)
    assert {total for _, _, total in steps} == {10} and sum(done == 10 for _, done, _ in steps) == 3


def test_between_rounds_the_sensors_may_be_looked_at_and_a_round_begins_with_calls_that_do_not_count() -> None:
    log: list[tuple[EngineId, int, int]] = []
    sessions = {name: cast(EngineSession, Engine(name, repeat(1.0), log)) for name in (A, B)}
    looked: list[int] = []
    time_in_rounds(sessions, TimingPlan((1,), 0.1, 0.0, 5.0, rounds=4), lambda *step: None, lambda: looked.append(len(log)))
    assert len(looked) == 4
    assert [log[at][2] for at in looked] == [SETTLE] * 4, "what comes next is no call that counts"
    assert {later - earlier for earlier, later in pairwise(looked)} == {6}, (
        "two engines, each settled, timed and let sleep: never within a round"
    )


def test_no_engine_is_called_before_the_threads_of_the_one_before_it_sleep() -> None:
    log: list[tuple[EngineId, int, int]] = []
    timed(Engine(A, repeat(1.0), log), Engine(B, repeat(1.0), log))
    changes = [before for before, after in pairwise(log) if before[0] != after[0]]
    assert len(changes) > 5
    assert all(repeats == 0 for _, _, repeats in changes)


def test_without_batches_nothing_is_timed() -> None:
    assert timed(Engine(A, repeat(1.0)), plan=TimingPlan(())) == ({A: {}}, {})


def test_an_engine_of_the_users_own_is_asked_for_calls_alone() -> None:
    own = Engine(A, repeat(1.0), worker=False)
    assert sorted(timed(own)[0][A]) == [1]
    assert own.told == []


@pytest.mark.parametrize("request_number", [1, 3, 9])
def test_an_engine_that_fails_stops_no_other(request_number: int) -> None:
    """In its warm-up or in a round."""
    log: list[tuple[EngineId, int, int]] = []
    found, failed = timed(Engine(A, repeat(1.0), log), Engine(B, repeat(1.0), log, fails_at=request_number), Engine(C, repeat(1.0), log))
    assert str(failed[B]) == "b fell over" and failed.keys() == {B}
    assert found.keys() == {A, C}
    assert all(len(found[engine][1].latency_ns) == 100 for engine in found)
    assert sum(engine == B and batch > 0 for engine, batch, _ in log) == request_number - 1, "it is asked nothing more"


def test_an_engine_that_fails_at_one_batch_size_is_not_asked_about_the_next() -> None:
    failing = Engine(A, repeat(1.0), fails_at=1)
    assert timed(failing, plan=TimingPlan((1, 8), 0.1, 0.0, 5.0))[0] == {}
    assert failing.requests == 1


def test_what_is_no_fault_of_an_engine_ends_everything() -> None:
    class Interrupted(Engine):
        def measure(self, batch: int, repeats: int) -> Calls:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        timed(Interrupted(A, repeat(1.0)))


def test_parts_and_starts_are_kept_where_every_round_has_them() -> None:
    def all_of_them(request: int, repeats: int) -> dict[str, Any]:
        return {"start_ns": np.full(repeats, request), "parts": {"compute": np.full(repeats, request)}}

    def sometimes(request: int, repeats: int) -> dict[str, Any]:
        return all_of_them(request, repeats) if request % 4 == 0 else {}

    whole = timed(Engine(A, repeat(1.0), extra=all_of_them))[0][A][1]
    assert whole.start_ns.shape == whole.parts_ns["compute"].shape == whole.latency_ns.shape
    assert np.array_equal(whole.start_ns, whole.parts_ns["compute"])
    part = timed(Engine(A, repeat(1.0), extra=sometimes))[0][A][1]
    assert part.start_ns.size == 0 and part.parts_ns == {}
