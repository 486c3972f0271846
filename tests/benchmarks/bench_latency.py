"""Does the worker report what a bare onnxruntime loop sees? Prints the ratio of the medians; not a pytest test.

    python tests/benchmarks/bench_latency.py MODEL.onnx [--batches 1 8 32] [--rounds 8] [--threads N]

Rounds of the worker's stopwatch and of a bare loop alternate in one process over two sessions of the same file, so that both see the same
machine. The ratio should lie in 0.97-1.03.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

from devices.engines.onnxruntime import OnnxRuntime
from devices.job import Options
from devices.timing import Stopwatch

ROUND_S = 0.5


def bare_session(path: Path, threads: int) -> ort.InferenceSession:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    return ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def bare_loop(session: ort.InferenceSession, name: str, batch: np.ndarray, seconds: float) -> list[float]:
    """What anyone would write first. Seconds per call."""
    times = []
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop:
        start = time.perf_counter()
        session.run(None, {name: batch})
        times.append(time.perf_counter() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()

    bare = bare_session(arguments.model, arguments.threads)
    given = bare.get_inputs()[0]
    engine = OnnxRuntime()
    engine.load(arguments.model, Options(given.name, bare.get_outputs()[0].name, arguments.threads))
    rng = np.random.default_rng(0)
    for size in arguments.batches:
        inputs = [rng.random((size, *given.shape[1:]), np.float32) for _ in range(16)]
        watch = Stopwatch(engine.infer, inputs, time.perf_counter_ns)
        ours, theirs = [], []
        for turn in range(arguments.rounds + 1):
            measured = np.array(watch.measure(ROUND_S, lambda _: None)) / 1e9
            looped = bare_loop(bare, given.name, inputs[0], ROUND_S)
            if turn:  # the first round warms both up
                ours.append(float(np.median(measured)))
                theirs.append(float(np.median(looped)))
        ratio = float(np.median(np.array(ours) / np.array(theirs)))
        print(f"batch {size}: reported {np.median(ours) * 1e3:.3f} ms / bare loop {np.median(theirs) * 1e3:.3f} ms = {ratio:.3f}")


if __name__ == "__main__":
    main()
