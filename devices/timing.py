"""Timing one engine: the warm-up rule and the measuring loop. Knows no runtime and no file. Standard library and numpy, Python >= 3.10.

The clock is read right before and right after `infer`, nowhere else. Inputs are prepared beforehand, and a different one goes in at
every call, so that an engine which remembers its last answer gains nothing.
"""

from __future__ import annotations

import random
import time
from array import array
from collections.abc import Callable, Sequence
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

Clock = Callable[[], int]
Infer = Callable[[NDArray[np.float32]], NDArray[np.float32]]
Batches = Sequence[NDArray[np.float32]]
Parts = Callable[[], dict[str, int]]

WINDOW_S = 0.1
WINDOW_CALLS = 5
WINDOWS = 3
AGREE = 0.10
REPORT_S = 1.0


class SimulatedClock:
    """A made-up clock for `--device null`: each reading is one tick after the last, give or take 1 %. The same seed ticks the same."""

    def __init__(self, tick_ns: int, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a simulation, no secret
        self._tick_ns = tick_ns
        self._now_ns = 0

    def __call__(self) -> int:
        """The time, in nanoseconds."""
        self._now_ns += round(self._tick_ns * self._random.uniform(0.99, 1.01))
        return self._now_ns


def make_clock(simulated: bool, seed: int, batch: int = 0) -> Clock:
    """The clock for calls of `batch` images: the machine's, or one on which a call takes 5 ms and 0.1 ms more per image."""
    return SimulatedClock(5_000_000 + 100_000 * batch, seed + batch) if simulated else time.perf_counter_ns


class Stopwatch:
    """Times calls of `infer` on `batches` in turn; remembers the last answer to each for the audit.

    Args:
        infer: the engine's call, blocking.
        batches: prepared inputs, float32 (batch, channels, height, width), each with other images.
        clock: nanoseconds.
        parts: nanoseconds of each part of the last call, where the engine knows them; asked for between calls, never within one.
    """

    def __init__(self, infer: Infer, batches: Batches, clock: Clock, parts: Parts | None = None) -> None:
        self.answers: dict[int, NDArray[np.float32]] = {}
        self.parts: dict[str, array[int]] = {}
        self.starts: array[int] = array("q")
        self._infer, self._batches, self._clock, self._ask = infer, batches, clock, parts
        self._turn = cycle(range(len(batches)))

    def first(self) -> int:
        """Nanoseconds of one call."""
        return self._window(0, 1)[0]

    def warm_up(self, floor_s: float, cap_s: float, tell: Callable[[float], None]) -> tuple[array[int], bool]:
        """Call for `floor_s`, then until the medians of the last three windows agree within 10 %, at most for `cap_s`.

        Args:
            floor_s, cap_s: seconds of the clock.
            tell: called now and then with the seconds spent.

        Returns:
            nanoseconds of every call, and whether the windows agreed.
        """
        calls: array[int] = array("q")
        medians: list[float] = []
        begin = now = self._clock()
        while True:
            window = self._window(WINDOW_S, WINDOW_CALLS)
            calls += window
            medians = [*medians[1 - WINDOWS :], float(np.median(window))]
            now = self._clock()
            spent_s = (now - begin) / 1e9
            tell(spent_s)
            stable = len(medians) == WINDOWS and max(medians) <= min(medians) * (1 + AGREE)
            if (stable and spent_s >= floor_s) or spent_s >= cap_s:
                return calls, stable

    def measure(self, seconds: float, tell: Callable[[float], None]) -> array[int]:
        """Nanoseconds of every call, for at least `seconds` of the clock; `tell` is called about once a second, between calls.

        `parts` and `starts` (readings of the clock) then have those of the same calls.
        """
        self.parts.clear()
        self.starts = array("q")
        calls: array[int] = array("q")
        begin = self._clock()
        spent_s = 0.0
        while spent_s < seconds or not calls:
            calls += self._window(min(REPORT_S, seconds - spent_s), 1)
            spent_s = (self._clock() - begin) / 1e9
            tell(spent_s)
        return calls

    def _window(self, seconds: float, least: int) -> array[int]:
        infer, batches, clock, answers, turn = self._infer, self._batches, self._clock, self.answers, self._turn
        calls: array[int] = array("q")
        record, began = calls.append, self.starts.append
        end = clock()
        stop = end + int(seconds * 1e9)
        while end < stop or len(calls) < least:
            index = next(turn)
            batch = batches[index]
            start = clock()
            answer = infer(batch)
            end = clock()
            record(end - start)
            began(start)
            answers[index] = answer
            if self._ask is not None:
                for name, spent in self._ask().items():
                    self.parts.setdefault(name, array("q")).append(spent)
        return calls


def repeated_to_fresh(infer: Infer, batches: Batches, clock: Clock, seconds: float = 1.0, pairs: int = 200) -> float:
    """Latency of one input given again and again / of inputs in turn. Calls alternate, so both see the same machine.

    The fastest call of each kind is compared: other work on the machine only ever adds time, a cache takes it away.

    Args:
        infer, batches, clock: as for `Stopwatch`; the first batch is the repeated one.
        seconds, pairs: stops at whichever comes first, after at least one pair.

    Source:
        MLPerf Inference compliance TEST04: a repeated query must not be faster.
    """
    repeated, fresh = Stopwatch(infer, batches[:1], clock), Stopwatch(infer, batches[1:], clock)
    times: list[tuple[int, int]] = []
    stop = clock() + int(seconds * 1e9)
    while not times or (len(times) < pairs and clock() < stop):
        times.append((repeated.first(), fresh.first()))
    return min(again for again, _ in times) / min(new for _, new in times)
