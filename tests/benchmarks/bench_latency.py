"""Is the ratio of two engines, as reported, what a bare loop over the same two files sees? Prints both; not a pytest test.

    python tests/benchmarks/bench_latency.py [--model resnet18x16-at] [--batch 1] [--repeats 5] [--threads N] [--busy]

In each repeat `harness profile` measures onnx-fp32 and ort-int8 in turns, and a bare onnxruntime loop runs the same two files in turns of
50 ms, before it and after it: call by call, each would find its weights driven out of the cache by the other's. Between two turns it sleeps
until the other session's threads do, which spin for some 70 ms after a call. With --busy another program loads one core all the while.
Limit: within 3 % in every repeat.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
from machine import machine_line

LOOP_S, TURN_S, REST_S = 15.0, 0.05, 0.1
LIMIT = 0.03
FLAVOURS = ("onnx-fp32", "ort-int8")
BUSY = "while True: sum(range(100000))"


def profile(model: str, batch: int, threads: int, folder: Path) -> float:
    """The ratio that `harness profile` reports: of the rounds' low quantiles."""
    words = ["profile", model, "--batch", str(batch), "--threads", str(threads), "--out", str(folder)]
    done = subprocess.run([sys.executable, "-m", "harness", *words], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        sys.exit(done.stderr[-2000:])
    (ratio,) = json.loads((folder / "record.json").read_text())["ratios"]
    return float(ratio["low"])


def bare_loop(folder: Path, batch: int, threads: int) -> tuple[list[int], list[int]]:
    """Nanoseconds per call of each file, the two in turns, without the first call of each turn."""
    settings = ort.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    files = [next((folder / "artefacts").glob(f"{flavour}-*.onnx")) for flavour in FLAVOURS]
    sessions = [ort.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"]) for file in files]
    given = sessions[0].get_inputs()[0]
    feed = {given.name: np.random.default_rng(0).random((batch, *given.shape[1:]), np.float32)}
    times: tuple[list[int], list[int]] = ([], [])
    stop = time.perf_counter() + LOOP_S
    while time.perf_counter() < stop:
        for session, spent in zip(sessions, times, strict=True):
            time.sleep(REST_S)
            session.run(None, feed)
            turn = time.perf_counter() + TURN_S
            while time.perf_counter() < turn:
                started = time.perf_counter_ns()
                session.run(None, feed)
                spent.append(time.perf_counter_ns() - started)
    return times


def main() -> None:
    """Print every repeat; exit code 1 where one is beyond the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18x16-at")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--busy", action="store_true")
    options = parser.parse_args()
    print(machine_line(options.threads))
    busy = subprocess.Popen([sys.executable, "-c", BUSY]) if options.busy else None
    missed = False
    try:
        with tempfile.TemporaryDirectory() as place:
            artefacts = Path(place) / "0"
            profile(options.model, options.batch, options.threads, artefacts)  # for the files alone
            for repeat in range(1, 1 + options.repeats):
                before = bare_loop(artefacts, options.batch, options.threads)
                reported = profile(options.model, options.batch, options.threads, Path(place) / str(repeat))
                after = bare_loop(artefacts, options.batch, options.threads)
                first, second = ([*a, *b] for a, b in zip(before, after, strict=True))
                low = float(np.quantile(first, 0.1) / np.quantile(second, 0.1))
                bare = statistics.median(first) / statistics.median(second)
                good = abs(reported / low - 1) <= LIMIT
                missed |= not good
                print(
                    f"{' / '.join(FLAVOURS)}, batch {options.batch}: reported {reported:.3f}, bare loop {low:.3f} (of medians {bare:.3f}), "
                    f"{100 * (reported / low - 1):+.1f} % (limit {100 * LIMIT:g} %)   {'ok' if good else 'MISSED'}",
                    flush=True,
                )
    finally:
        if busy is not None:
            busy.kill()
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
