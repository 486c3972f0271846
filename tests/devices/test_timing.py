"""The measuring loop on a machine whose every call lasts exactly as long as the test says, and the clocks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import repeat

import numpy as np

from devices.worker.timing import Stopwatch, SyntheticClock, make_clock, once

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


def test_measured_values_are_exactly_the_calls() -> None:
    durations = [float(value) for value in range(10, 60)]
    machine = Machine(iter(durations))
    watch = Stopwatch(machine.infer, INPUTS, machine.clock)
    assert list(watch.run(40)) == [round(value * MS) for value in durations[:40]]
    assert list(watch.starts) == [round(sum(durations[:i]) * MS) for i in range(40)]
    assert list(watch.run(10)) == [round(value * MS) for value in durations[40:]]
    assert len(watch.starts) == 10
    assert list(watch.run(0)) == []


def test_every_call_gets_another_input_and_answers_are_kept() -> None:
    machine = Machine(repeat(1.0))
    watch = Stopwatch(machine.infer, INPUTS, machine.clock)
    watch.run(3)
    watch.run(5)
    assert machine.seen == [0, 1, 2, 3, 0, 1, 2, 3]
    assert {index: float(answer[0, 0]) for index, answer in watch.answers.items()} == {0: 0, 1: 10, 2: 20, 3: 30}


def test_parts_are_asked_for_between_calls_never_within_one() -> None:
    machine = Machine(repeat(1.0))

    def parts() -> dict[str, int]:
        machine.now += 100 * MS
        return {"compute": len(machine.seen)}

    watch = Stopwatch(machine.infer, INPUTS, machine.clock, parts)
    assert list(watch.run(3)) == [MS] * 3
    assert list(watch.parts["compute"]) == [1, 2, 3]
    watch.run(2)
    assert list(watch.parts["compute"]) == [4, 5]


def test_synthetic_clock_is_the_same_every_time_and_jitters_mildly() -> None:
    first, second, other = SyntheticClock(1000, 7), SyntheticClock(1000, 7), SyntheticClock(1000, 8)
    ticks = np.diff([first() for _ in range(200)])
    assert np.array_equal(ticks, np.diff([second() for _ in range(200)]))
    assert not np.array_equal(ticks, np.diff([other() for _ in range(200)]))
    assert 990 <= ticks.min() < ticks.max() <= 1010


def test_the_real_clock_is_the_machines() -> None:
    assert make_clock(False, 0, 8) is time.perf_counter_ns


def test_on_a_made_up_clock_each_input_runs_once() -> None:
    machine = Machine(repeat(1.0))
    watch = Stopwatch(once(machine.infer), INPUTS, SyntheticClock(MS, 0))
    assert len(watch.run(100)) == 100
    assert machine.seen == [0.0, 1.0, 2.0, 3.0]
    assert [float(watch.answers[place][0, 0]) for place in range(4)] == [0.0, 10.0, 20.0, 30.0]
