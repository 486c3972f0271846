"""The whole audit against the plain script of the same attacks, as ratios of wall time measured in one run. Use an idle machine.

    python tests/benchmarks/bench_audit.py [--model resnet18x16-at] [--samples 256] [--rounds 1]

Each round runs, in turn: the plain script (`plain_script.py`), the same with both APGDs in one AutoAttack evaluator, `harness bench` with
the same attacks on the twin alone, and `harness bench` with every source of its tier. Steps, radius, images and threads are the same. The
limits of a CPU with bfloat16 differ from those of one without.

The floor of a bench is the gradients that its sets took (survivors x steps, as its record counts them), each at the cost of a bare one in
the middle of a large batch; how far the run is from it is printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from bench_gradient import gradient
from machine import machine_line

from harness.attacks.gradient import fast, frozen_eval
from harness.compute.precision import native_bf16
from harness.data.dataset import to_tensor
from harness.data.load import load_data
from harness.data.split import stratified
from harness.models.load import load_twin
from harness.models.onnx_graph import read_onnx

HERE = Path(__file__).parent
POINTS = 1.0
BARE, REPEATS = 128, 7  # images in a bare gradient, and how many are timed
# (ours, of what, limit with bfloat16, limit without)
LIMITS = (
    ("bench, S1", "plain", 0.35, 0.5),
    ("bench, S1", "plain, cascade", 0.7, 0.7),
    ("bench, every source", "plain", 0.55, 0.8),
)


def timed(command: list[str]) -> tuple[float, str]:
    """Wall seconds and standard output of a command; a bench may end with any verdict."""
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in ((0, 1, 3) if "bench" in command else (0,)):
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return time.monotonic() - started, done.stdout


def save_case(model: str, place: Path, n: int) -> None:
    """The network as a saved program; n images, all of them attacked, and others for calibration."""
    twin = load_twin(model)
    images, others = load_data("cifar10-sample", input_shape=twin.input_shape, classes=twin.classes, seed=0)
    example = (torch.rand(2, *twin.input_shape),)
    torch.export.save(torch.export.export(twin.module, example, dynamic_shapes=({0: torch.export.Dim("n")},)), place / "model.pt2")
    chosen = images.subset(stratified(images.labels, n, 0))
    np.savez(place / "data.npz", images=chosen.images, labels=chosen.labels, calibration_images=others.images)


def worst_of_twin(run: Path) -> float:
    """The twin's robust accuracy under every attack at the primary radius."""
    record = json.loads((run / "record.json").read_text())
    return float(record["claims"][0]["twin_robust"]["accuracy"])


def bare(module: torch.nn.Module, images: torch.Tensor) -> float:
    """Seconds that a gradient of one image takes in a large batch, in the form that attacks use; the median of several."""
    module = module.eval()
    once, spent = gradient(fast(module, images, bf16=native_bf16()), images), []
    with frozen_eval(module):
        for _ in range(2 + REPEATS):
            started = time.perf_counter()
            once()
            spent.append(time.perf_counter() - started)
    return statistics.median(spent[2:]) / len(images)


def floor(run: Path, place: Path) -> tuple[float, str]:
    """Seconds that the gradients of a run take by themselves, and how they are made up."""
    record = json.loads((run / "record.json").read_text())
    images = to_tensor(np.load(place / "data.npz")["images"][:BARE])
    total, parts = 0.0, []
    for name, source in (("the twin", "S1"), ("the graph", "S3")):
        count = sum(a["queries"]["total"] for a in record["attacks"] if a["source"] == source and a["queries"])
        if count:
            model = load_twin(str(place / "model.pt2")).module if source == "S1" else read_onnx(next(run.glob("artefacts/*int8*.onnx")))
            cost = bare(model, images)
            total += count * cost
            parts.append(f"{count:,} gradients of {name} at {1 / cost:,.0f}/s")
    return total, ", ".join(parts)


def main() -> None:
    """Print every time and ratio; the ratio that misses its limit is marked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18x16-at")
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    bf16 = native_bf16()
    print(machine_line())
    seconds: dict[str, list[float]] = {}
    worst: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        save_case(options.model, place, options.samples)
        plain = [sys.executable, str(HERE / "plain_script.py"), str(place / "model.pt2"), str(place / "data.npz"), str(options.samples)]
        bench = [sys.executable, "-m", "harness", "bench", "--model", str(place / "model.pt2"), "--data", str(place / "data.npz")]
        bench += ["--eps", "8/255", "--samples", str(options.samples), "--attack", "pgd", "--attack", "apgd-ce", "--attack", "apgd-dlr"]
        for number in range(options.rounds):
            for name, command in (
                ("plain", plain),
                ("plain, cascade", [*plain, "--cascade"]),
                ("bench, S1", [*bench, "--source", "S1", "--out", str(place / f"s1-{number}")]),
                ("bench, every source", [*bench, "--out", str(place / f"all-{number}")]),
            ):
                wall, said = timed(command)
                seconds.setdefault(name, []).append(wall)
                out = Path(command[-1])
                worst[name] = worst_of_twin(out) if name.startswith("bench") else json.loads(said.splitlines()[-1])["worst"]
                print(f"{name}: {wall:.1f} s, robust accuracy of the twin {worst[name]:.1%} (n = {options.samples})", flush=True)
        floors = {run: floor(place / run, place) for run in ("s1-0", "all-0")}
    for ours, other, with_bf16, without in LIMITS:
        ratio, limit = statistics.median(seconds[ours]) / statistics.median(seconds[other]), with_bf16 if bf16 else without
        print(f"{ours} / {other}: {ratio:.2f} (limit {limit:g})   {'ok' if ratio <= limit else 'MISSED'}")
    for name, run in (("bench, S1", "s1-0"), ("bench, every source", "all-0")):
        least, made_up = floors[run]
        print(f"{name}: floor {least:.1f} s ({made_up}); the run takes {seconds[name][0] / least:.1f} times that")
    for name in ("plain, cascade", "bench, S1"):
        points = 100 * (worst[name] - worst["plain"])
        print(f"{name}: {points:+.1f} points of robust accuracy (limit {POINTS:g})   {'ok' if points <= POINTS else 'MISSED'}")


if __name__ == "__main__":
    main()
