"""Is the twin's worst case in `harness bench` that of AutoAttack's standard version, and in what part of its time? Not a pytest test.

    python tests/benchmarks/bench_standard.py [--model resnet18x16-at ...] [--samples 256] [--tier bench] [--out runs/standard]

For each network `harness bench --source S1` of that tier on the null device, everything included, then pyautoattack's `standard` (APGD-CE,
APGD-T, FAB-T and Square, each on what is left) on the same images, in float32. The network is given as a file whose card does not say what
it was compressed from: S1 would attack that as well, which AutoAttack does not. Seconds are of a processor, which other programs disturb
less than the clock on the wall. What is finished lies in --out, and is not run again: AutoAttack takes hours on a slow processor. Limits:
at most 0.2 points above AutoAttack, in at most 0.1 of its time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from machine import machine_line
from pyautoattack import AutoAttack
from torch import nn

from harness.answers import TWIN, Answers, Column, Matrix
from harness.attacks.gradient import frozen_eval
from harness.attacks.parts import load_set
from harness.data.dataset import to_tensor
from harness.models.load import load_twin
from harness.models.shipped import cards, weights_file
from harness.records import RunRecord

MODELS = ("resnet18x16-at", "resnet18x16-at-radmm-8x", "resnet18x16-at-lowbit-w8a8")
EPS, PART, POINTS, RATIO = Fraction(8, 255), 64, 0.2, 0.1


def ours(model: str, options: argparse.Namespace, folder: Path) -> tuple[np.ndarray, float]:
    """Who is right under every set of S1, bool (n,), and the seconds of the whole command."""
    network = alone(model, folder.parent)
    command = [sys.executable, "-m", "harness", "bench", "--model", str(network), "--device", "null", "--batch", "1", "--eps", str(EPS)]
    command += ["--source", "S1", "--tier", options.tier, "--samples", str(options.samples), "--out", str(folder)]
    took = folder.with_name("bench-seconds.json")
    if not took.exists():
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped, whose seconds nobody counted
        before = os.times()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        after = os.times()
        if done.returncode not in (0, 1, 3):
            sys.exit(done.stderr[-2000:])
        took.write_text(json.dumps(after.children_user - before.children_user + after.children_system - before.children_system))
    record = RunRecord.load(folder)
    sets = [attack for attack in record.attacks if attack.source == "S1" and attack.eps_exact == str(EPS)]
    columns = [Column(attack, load_set(folder / attack.file, attack.set_sha256)[1]) for attack in sets]
    right = Matrix(Answers(folder), record.data.sha256, columns).worst_case(TWIN, columns)
    return right, json.loads(took.read_text())


def alone(model: str, folder: Path) -> Path:
    """A copy of a zoo network's weights in `folder`, with a card that says nothing of how the network was made."""
    copy = folder / weights_file(model).name
    shutil.copyfile(weights_file(model), copy)
    card = {key: value for key, value in cards()[model].items() if key != "method"}
    copy.with_suffix(".json").write_text(json.dumps(card))
    return copy


def theirs(module: nn.Module, images: np.ndarray, labels: np.ndarray, folder: Path) -> tuple[np.ndarray, float]:
    """Who is right under AutoAttack's standard version, bool (n,), and its seconds: `PART` images at a time, each kept in `folder`."""
    right, seconds = [], 0.0
    for start in range(0, len(images), PART):
        kept = folder / f"autoattack-{start:05d}.json"
        if not kept.exists():
            found, took = attacked(module, images[start : start + PART], labels[start : start + PART])
            kept.write_text(json.dumps({"right": found.tolist(), "seconds": took}))
            print(f"AutoAttack, images from {start}: {found.mean():.1%} right, {took:.0f} CPU s", file=sys.stderr, flush=True)
        part = json.loads(kept.read_text())
        right += part["right"]
        seconds += part["seconds"]
    return np.array(right, dtype=np.bool_), seconds


def attacked(module: nn.Module, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """The same of some images, in one go."""
    x, y = to_tensor(images), torch.from_numpy(labels)
    started = time.process_time()
    with frozen_eval(module):
        evaluator = AutoAttack(module, norm="Linf", eps=float(EPS), version="standard", device="cpu", seed=0)
        found = evaluator.run_standard_evaluation(x, y, batch_size=PART)
        found = found[0] if isinstance(found, tuple) else found
        with torch.no_grad():
            right = module(found).argmax(1) == y
    return right.numpy(), time.process_time() - started


def main() -> None:
    """Print each network's two figures; exit code 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=MODELS)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--tier", default="bench", choices=("quick", "bench"))
    parser.add_argument("--out", type=Path, default=Path("runs/standard"), help="a folder for what is finished")
    options = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    missed = False
    print(machine_line(), flush=True)
    for model in options.model:
        place = options.out / f"{model}-{options.tier}-{options.samples}"
        place.mkdir(parents=True, exist_ok=True)
        mine, mine_s = ours(model, options, place / "run")
        with np.load(place / "run" / "adversarial" / "clean.npz") as clean:
            images, labels = clean["images"], clean["labels"]
        print(f"{model}: bench, S1, tier {options.tier}: {mine.mean():.1%} in {mine_s:.0f} CPU s", flush=True)
        other, other_s = theirs(load_twin(model).module, images, labels, place)
        points, ratio = 100 * float(mine.mean() - other.mean()), mine_s / other_s
        apart = [np.flatnonzero(a & ~b).tolist() for a, b in ((mine, other), (other, mine))]
        good = points <= POINTS and ratio <= RATIO
        missed |= not good
        print(
            f"{model}: AutoAttack standard {other.mean():.1%} in {other_s:.0f} CPU s: {points:+.1f} points (limit {POINTS:g}), "
            f"{ratio:.3f} of the time (limit {RATIO:g}), n = {len(mine)}   {'ok' if good else 'MISSED'}; "
            f"broken by AutoAttack alone: {apart[0]}, by bench alone: {apart[1]}",
            flush=True,
        )
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
