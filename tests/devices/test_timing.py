"""The warm-up rule and the measuring loop against a machine whose every call lasts exactly as long as the test says."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat

import numpy as np
import pytest

from devices.worker.timing import SimulatedClock, Stopwatch, make_clock, repeated_to_fresh

MS = 1_000_000
INPUTS = [np.full((1, 1), value, np.float32) for value in range(4)]


class Machine:
    """A clock that only `infer` moves on, by the next duration of a list."""

    def __init__(self, durations_ms: Iterator[float]) -> None:
        self.now = 0
        self.durations = durations_ms
        self.seen: list[float] = []

    def clock(self) -> int:
        return self.now

    def infer(self, batch: np.ndarray) -> np.ndarray:
        self.seen.append(float(batch[0, 0]))
        self.now += round(next(self.durations) * MS)
        return batch * 10


def silent(_: float) -> None:
    pass


def test_measured_values_are_exactly_the_calls() -> None:
    durations = [float(value) for value in range(10, 60)]
    machine = Machine(chain(durations, repeat(1.0)))
    told: list[float] = []
    calls = Stopwatch(machine.infer, INPUTS, machine.clock).measure(sum(durations[:40]) / 1e3, told.append)
    assert list(calls) == [round(value * MS) for value in durations[:40]]
    assert told[-1] == pytest.approx(sum(durations[:40]) / 1e3)
    assert len(told) == 2, "about once a second"


def test_every_call_gets_another_input_and_answers_are_kept() -> None:
    machine = Machine(repeat(1.0))
    watch = Stopwatch(machine.infer, INPUTS, machine.clock)
    watch.measure(0.008, silent)
    assert machine.seen == [0, 1, 2, 3, 0, 1, 2, 3]
    assert {index: float(answer[0, 0]) for index, answer in watch.answers.items()} == {0: 0, 1: 10, 2: 20, 3: 30}


def test_warm_up_lasts_its_floor_even_when_stable() -> None:
    machine = Machine(repeat(10.0))
    calls, stable = Stopwatch(machine.infer, INPUTS, machine.clock).warm_up(0.8, 5.0, silent)
    assert stable
    assert sum(calls) == 800 * MS


def test_warm_up_goes_on_until_three_windows_agree() -> None:
    # Windows of 0.1 s: the first two are 40 % and 20 % slow, the next three agree; only then does it end.
    machine = Machine(chain(repeat(20.0, 5), repeat(12.5, 8), repeat(10.0)))
    calls, stable = Stopwatch(machine.infer, INPUTS, machine.clock).warm_up(0.0, 5.0, silent)
    assert stable
    assert len(calls) == 5 + 8 + 30


def test_warm_up_stops_at_its_cap_and_says_so() -> None:
    machine = Machine(float(2**step) for step in range(2, 64))
    _, stable = Stopwatch(machine.infer, INPUTS, machine.clock).warm_up(0.0, 1.0, silent)
    assert not stable
    assert machine.now >= 1000 * MS


def test_a_slow_engine_is_still_called_five_times_a_window() -> None:
    machine = Machine(repeat(900.0))
    calls, stable = Stopwatch(machine.infer, INPUTS, machine.clock).warm_up(0.5, 10.0, silent)
    assert stable
    assert len(calls) == 15


@pytest.mark.parametrize(("hit_ms", "ratio"), [(10.0, 1.0), (1.0, 0.1)])
def test_an_engine_that_remembers_its_answers_is_seen(hit_ms: float, ratio: float) -> None:
    known: set[float] = set()
    now = 0

    def infer(batch: np.ndarray) -> np.ndarray:
        nonlocal now
        value = float(batch[0, 0])
        now += round((hit_ms if value in known else 10.0) * MS)
        known.add(value)
        return batch

    fresh = [np.full((1, 1), value, np.float32) for value in range(1000)]
    assert repeated_to_fresh(infer, fresh, lambda: now) == pytest.approx(ratio)


def test_simulated_clock_is_the_same_every_time_and_jitters_mildly() -> None:
    first, second, other = SimulatedClock(1000, 7), SimulatedClock(1000, 7), SimulatedClock(1000, 8)
    ticks = np.diff([first() for _ in range(200)])
    assert np.array_equal(ticks, np.diff([second() for _ in range(200)]))
    assert not np.array_equal(ticks, np.diff([other() for _ in range(200)]))
    assert 990 <= ticks.min() < ticks.max() <= 1010


def test_the_real_clock_is_the_machines() -> None:
    import time

    assert make_clock(False, 0, 8) is time.perf_counter_ns
