"""Timing calls of one engine. Knows no runtime, no file, and not how many calls are enough. Standard library and numpy, Python >= 3.10.

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


SLICE_S = 0.01
IDLE_SHARE = 0.1  # of a slice: a thread that spins takes all of it
IDLE_SLICES = 2  # on end: on a busy machine a thread that spins may have to wait for one
LONGEST_S = 1.0


def until_idle() -> None:
    """Return as soon as this process uses no processor, or after a second.

    The threads of a runtime spin on after a call, in case another follows (onnxruntime's for 70 ms here): time that whatever is measured
    next, in this process or in another, would lose.
    """
    end, idle = time.monotonic() + LONGEST_S, 0
    while idle < IDLE_SLICES and time.monotonic() < end:
        used = time.process_time()
        time.sleep(SLICE_S)
        idle = idle + 1 if time.process_time() - used < IDLE_SHARE * SLICE_S else 0


class SyntheticClock:
    """A made-up clock for `--device null`: each reading is one tick after the last, give or take 1 %. The same seed ticks the same."""

    def __init__(self, tick_ns: int, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a simulation, no secret
        self._tick_ns = tick_ns
        self._now_ns = 0

    def __call__(self) -> int:
        """The time, in nanoseconds."""
        self._now_ns += round(self._tick_ns * self._random.uniform(0.99, 1.01))
        return self._now_ns


def once(infer: Infer) -> Infer:
    """`infer`, which runs once on each input and then remembers: on a made-up clock nothing is learnt from repeats."""
    answers: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}

    def answer(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if id(batch) not in answers:
            answers[id(batch)] = batch, infer(batch)  # with the input, or its place in memory could become another's
        return answers[id(batch)][1]

    return answer


def make_clock(synthetic: bool, seed: int, batch: int = 0) -> Clock:
    """The clock for calls of `batch` images: the machine's, or one on which a call takes 5 ms and 0.1 ms more per image."""
    return SyntheticClock(5_000_000 + 100_000 * batch, seed + batch) if synthetic else time.perf_counter_ns


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

    def run(self, repeats: int) -> array[int]:
        """Nanoseconds of `repeats` calls. `parts` and `starts` (readings of the clock) then have those of the same calls."""
        infer, batches, clock, answers, turn = self._infer, self._batches, self._clock, self.answers, self._turn
        self.parts.clear()
        self.starts = array("q")
        calls: array[int] = array("q")
        record, began = calls.append, self.starts.append
        for _ in range(repeats):
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
