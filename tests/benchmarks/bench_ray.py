"""How much of two CPUs do two workers of a Ray cluster use? Prints a ratio; not a pytest test.

    python tests/benchmarks/bench_ray.py --model resnet18x16-at [--attack pgd] [--batches 8] [--rounds 3] [--eps 8/255]

One set, made here on one thread and by two workers of one CPU each, in turns. Efficiency: the time here over twice the time there, all
of it but the start of the cluster and of its workers, which is shown apart. Limit: at least 0.9, and the same bytes. Two cores must be
idle; the processor time, of all of Ray's processes together, says what is spent where they are not.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import ray
import torch

from devices.worker.environment import describe_machine
from harness.attacks.batch_size import batch_size
from harness.attacks.executors import Executor
from harness.attacks.executors.local import Local
from harness.attacks.executors.on_ray import OnRay
from harness.attacks.sets import make_set
from harness.attacks.table import resolve
from harness.compute.allocator import keep_freed_memory
from harness.data.load import load_data
from harness.eps import parse_eps
from harness.models.load import load_twin

WORKERS, EFFICIENCY = 2, 0.9


class Made(NamedTuple):
    """A set: its hash, wall and processor seconds."""

    sha256: str
    wall_s: float
    cpu_s: float


def processor_s() -> float:
    """Processor seconds so far of this process and of all that it started and that live."""
    times, children = dict[int, float](), defaultdict[int, list[int]](list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            words = path.read_text().rpartition(")")[2].split()
            times[int(path.parent.name)] = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
            children[int(words[1])].append(int(path.parent.name))
    found = [os.getpid()]
    for pid in found:
        found += children[pid]
    return sum(times.get(pid, 0) for pid in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18x16-at")
    parser.add_argument("--attack", type=resolve, default="pgd")
    parser.add_argument("--data", default="cifar10-sample")
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--eps", type=parse_eps, default="8/255")
    options = parser.parse_args()

    torch.set_num_threads(1)
    keep_freed_memory()
    twin = load_twin(options.model)
    data, _ = load_data(options.data, input_shape=twin.input_shape, classes=twin.classes, seed=0)
    index = np.arange(options.batches * batch_size(twin.module, data.images)) % len(data)

    def make(executor: Executor, n: int = len(index)) -> Made:
        """The set of the first n images."""
        started, spent = time.perf_counter(), processor_s()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            record, _ = make_set(
                twin.module, data, index[:n], options.attack, options.eps, 0, source="S1", folder=Path(folder) / "sets", executor=executor
            )
        return Made(record.set_sha256, time.perf_counter() - started, processor_s() - spent)

    started = time.perf_counter()
    ray.init("local", num_cpus=WORKERS, include_dashboard=False, logging_level="error", log_to_driver=False)
    cluster = OnRay(None)
    make(cluster, len(index) * WORKERS // options.batches)
    print(
        f"{describe_machine()['cpu_model']}, {twin.name}, {options.attack.name} on {len(index)} images in {options.batches} batches; ",
        end="",
    )
    print(f"cluster and workers started in {time.perf_counter() - started:.1f} s", flush=True)

    found = []
    for _ in range(options.rounds):
        here, there = make(Local()), make(cluster)
        found.append(here.wall_s / there.wall_s / WORKERS)
        wall = f"{here.wall_s:.1f} s here, {there.wall_s:.1f} s on {WORKERS} workers, efficiency {found[-1]:.2f}"
        print(f"{wall}; processor {here.cpu_s:.1f} s and {there.cpu_s:.1f} s, {here.cpu_s / there.cpu_s:.2f}", flush=True)
        if here.sha256 != there.sha256:
            print("the bytes differ   MISSED")
    middle = statistics.median(found)
    print(f"efficiency, median of {len(found)}: {middle:.2f} (limit {EFFICIENCY})   {'ok' if middle >= EFFICIENCY else 'MISSED'}")
    ray.shutdown()


if __name__ == "__main__":
    main()
