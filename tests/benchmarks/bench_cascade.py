"""Does the cascade end where every attack on every image ends? Prints each model's worst case both ways; not a pytest test.

    python tests/benchmarks/bench_cascade.py [--model resnet18x16-at ...] [--samples 1000]

For each network `harness bench` on the null device with every source, in a cascade and with --exhaustive. Limit: the worst cases of the
twin and of each engine within 0.4 points. Images that only one of the two broke are listed: a warm start and another batch make other
searches.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
from machine import machine_line

from harness.answers import TWIN, Answers, Column, Matrix
from harness.attacks.parts import load_set
from harness.records import RunRecord
from harness.sources import deciding

MODELS = ("resnet18x16-at", "resnet18x16-at-radmm-8x", "resnet18x16-at-lowbit-w8a8")
EPS, POINTS = Fraction(8, 255), 0.4


def run(model: str, samples: int, folder: Path, *words: str) -> float:
    """A bench in `folder`; wall seconds."""
    command = [sys.executable, "-m", "harness", "bench", "--model", model, "--device", "null", "--batch", "1", "--eps", str(EPS)]
    started = time.monotonic()
    done = subprocess.run([*command, "--samples", str(samples), "--out", str(folder), *words], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1, 3):
        sys.exit(done.stderr[-2000:])
    return time.monotonic() - started


def worst_cases(folder: Path) -> dict[str, np.ndarray]:
    """By model: who is right under every set of its claim, bool (n,)."""
    record = RunRecord.load(folder)
    columns = [Column(attack, load_set(folder / attack.file, attack.set_sha256)[1]) for attack in record.attacks]
    matrix = Matrix(Answers(folder), record.data.sha256, columns)
    engines = [engine.name for engine in record.engines if engine.status == "ok"]
    rows = {f"twin, claim on {name}": matrix.worst_case(TWIN, deciding(columns, name, EPS)) for name in engines}
    return rows | {name: matrix.worst_case(name, deciding(columns, name, EPS)) for name in engines}


def main() -> None:
    """Print every row; exit code 1 where one is further apart than the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=MODELS)
    parser.add_argument("--samples", type=int, default=1000)
    options = parser.parse_args()
    missed = False
    print(machine_line())
    for model in options.model:
        with tempfile.TemporaryDirectory() as place:
            cascade, every = Path(place) / "cascade", Path(place) / "every"
            seconds = run(model, options.samples, cascade), run(model, options.samples, every, "--exhaustive")
            print(f"{model}: cascade {seconds[0]:.0f} s, every attack on every image {seconds[1]:.0f} s", flush=True)
            whole = worst_cases(every)
            for name, right in worst_cases(cascade).items():
                points = 100 * float(right.mean() - whole[name].mean())
                apart = [np.flatnonzero(a & ~b).tolist() for a, b in ((right, whole[name]), (whole[name], right))]
                good = abs(points) <= POINTS
                missed |= not good
                print(
                    f"  {name}: {right.mean():.1%} and {whole[name].mean():.1%} of {len(right)}, {points:+.1f} points (limit {POINTS:g})   "
                    f"{'ok' if good else 'MISSED'}; broken only by every attack: {apart[0]}, only by the cascade: {apart[1]}",
                    flush=True,
                )
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
