"""Does the worker report what a bare onnxruntime loop sees? Prints the ratio of the medians; not a pytest test.

    python tests/benchmarks/bench_latency.py MODEL.onnx [--batches 1 8 32] [--rounds 60] [--threads N]

Rounds of the worker's stopwatch and of a bare loop alternate in one process over two sessions of the same file, so that both see the same
machine. The ratio should lie in 0.97-1.03.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort

from devices.worker.engines.onnxruntime import OnnxRuntime
from devices.worker.spec import RuntimeOptions
from devices.worker.timing import Stopwatch

ROUND_S = 0.1
WARM = 5


def bare_session(path: Path, threads: int) -> ort.InferenceSession:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    return ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def bare_loop(session: ort.InferenceSession, name: str, batch: np.ndarray) -> list[int]:
    """What anyone would write first. Nanoseconds per call."""
    times = []
    stop = time.perf_counter_ns() + int(ROUND_S * 1e9)
    while time.perf_counter_ns() < stop:
        start = time.perf_counter_ns()
        session.run(None, {name: batch})
        times.append(time.perf_counter_ns() - start)
    return times


def contest(reported: Callable[[], Sequence[int]], bare: Callable[[], Sequence[int]], rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Every call of both, in nanoseconds; who goes first alternates. The first rounds, which warm both up, are thrown away."""
    ours: list[int] = []
    theirs: list[int] = []
    for turn in range(WARM + rounds):
        if turn == WARM:
            ours, theirs = [], []
        if turn % 2:
            theirs.extend(bare())
        ours.extend(reported())
        if not turn % 2:
            theirs.extend(bare())
    return np.array(ours), np.array(theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()

    session = bare_session(arguments.model, arguments.threads)
    given = session.get_inputs()[0]
    engine = OnnxRuntime()
    engine.load(arguments.model, RuntimeOptions(given.name, session.get_outputs()[0].name, arguments.threads))
    rng = np.random.default_rng(0)
    for size in arguments.batches:
        inputs = [rng.random((size, *given.shape[1:]), np.float32) for _ in range(16)]
        watch = Stopwatch(engine.infer, inputs, time.perf_counter_ns)
        ours, theirs = contest(
            partial(watch.measure, ROUND_S, lambda _: None),
            partial(bare_loop, session, given.name, inputs[0]),
            arguments.rounds,
        )
        reported, looped = np.median(ours) / 1e6, np.median(theirs) / 1e6
        print(f"batch {size}: reported {reported:.3f} ms / bare loop {looped:.3f} ms = {reported / looped:.3f}")


if __name__ == "__main__":
    main()
