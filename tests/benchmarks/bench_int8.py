"""Is INT8 faster than float here? Prints the ratio of the medians and the share of integer MACs; not a pytest test.

    python tests/benchmarks/bench_int8.py FP32.onnx INT8.onnx [--batches 1 32] [--rounds 60] [--threads N]

Calls of the two files alternate in one process, so that both see the same machine; who goes first alternates too.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from export.artefact import Artefact, sha256_file
from export.evidence import Evidence, precision_evidence

WARM = 10


def session(path: Path, threads: int, optimised: Path) -> ort.InferenceSession:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.optimized_model_filepath = str(optimised)
    settings.log_severity_level = 4
    return ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def evidence(path: Path, precision: str, optimised: Path, given: Any) -> Evidence:
    """What onnxruntime made of a bare file, which needs no manifest."""
    artefact = Artefact(
        path.stem, path, sha256_file(path), "", "", precision, "onnxruntime", given.name, tuple(given.shape[1:]), "", 0, {}, {}
    )
    return precision_evidence(optimised, artefact)


def contest(sessions: list[ort.InferenceSession], batch: int, rounds: int) -> list[np.ndarray]:
    """Nanoseconds of every call, one array per session; the first rounds, which warm up, are thrown away."""
    times: list[list[int]] = [[] for _ in sessions]
    given = sessions[0].get_inputs()[0]
    images = np.random.default_rng(0).random((batch, *given.shape[1:]), np.float32)
    order = list(range(len(sessions)))
    for _ in range(WARM + rounds):
        for index in order:
            start = time.perf_counter_ns()
            sessions[index].run(None, {given.name: images})
            times[index].append(time.perf_counter_ns() - start)
        order.reverse()
    return [np.array(values[WARM:]) for values in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fp32", type=Path)
    parser.add_argument("int8", type=Path)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as place:
        graphs = [Path(place) / "fp32.onnx", Path(place) / "int8.onnx"]
        sessions = [session(path, arguments.threads, graph) for path, graph in zip((arguments.fp32, arguments.int8), graphs, strict=True)]
        found = evidence(arguments.int8, "int8", graphs[1], sessions[1].get_inputs()[0])
    print(f"{arguments.int8.name}: label '{found.label}', {found.note}")
    for batch in arguments.batches:
        fp32, int8 = contest(sessions, batch, arguments.rounds)
        ratio = np.median(fp32) / np.median(int8)
        low, high = np.quantile(fp32 / int8, (0.25, 0.75))
        medians = f"{np.median(fp32) / 1e6:.3f} and {np.median(int8) / 1e6:.3f} ms, {arguments.threads} threads"
        print(f"batch {batch}: int8 is {ratio:.2f} times as fast as fp32 (quartiles {low:.2f}-{high:.2f}; {medians})")


if __name__ == "__main__":
    main()
