"""`make benchmark`: speed and memory of the whole, and of its parts against the plain way, in one run. Use an idle machine."""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
HARNESS = [sys.executable, "-m", "harness.cli"]


def timed(command: list[str]) -> tuple[float, float]:
    """Wall seconds, and the peak memory in GiB of the largest process, of one command."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(command)}: exit code {os.waitstatus_to_exitcode(status)}")
    return time.monotonic() - started, usage.ru_maxrss / 2**20


def part(script: str, *words: str) -> list[str]:
    """One benchmark script, its lines indented; returns those that miss their limit."""
    print(f"\n{script}", flush=True)
    done = subprocess.run([sys.executable, str(HERE / script), *words], stdout=subprocess.PIPE, text=True, check=False)
    lines = done.stdout.splitlines()
    print("".join(f"  {line}\n" for line in lines), flush=True)
    missed = [f"{script}: {line}" for line in lines if "MISSED" in line]
    return missed or [f"{script}: exit code {done.returncode}"] * (done.returncode != 0)


def limited(what: str, value: float, limit: float, unit: str) -> list[str]:
    """Print a figure beside its limit; returns the line where it misses it."""
    line = f"{what}: {value:.2f} {unit} (limit {limit:g} {unit})   {'ok' if value <= limit else 'MISSED'}"
    print(line, flush=True)
    return [line] if value > limit else []


def main() -> None:
    """Print every figure, with its limit where it has one; exit code 1 where one misses it."""
    helps = [timed([*HARNESS, "--help"])[0] for _ in range(6)][1:]
    missed = limited(f"harness --help, median of {len(helps)}", statistics.median(helps), 0.4, "s")
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        seconds, peak = timed([*HARNESS, "bench", "--out", str(run)])
        missed += limited("harness bench", seconds, 120, "s") + limited("harness bench, peak memory", peak * 2**30 / 1e9, 2.5, "GB")
        artefacts = {path.name.split("-")[0]: path for path in sorted((run / "artefacts").glob("*.onnx"))}
        fp32, int8 = artefacts["onnx"], artefacts["ort"]
        missed += part("bench_int8.py", str(fp32), str(int8))
    missed += part("bench_latency.py") + part("bench_latency.py", "--busy")
    missed += part("bench_audit.py") + part("bench_cascade.py") + part("bench_square.py") + part("bench_standard.py")
    missed += part("bench_gradient.py") + part("bench_attacks.py", "--model", "resnet18x16-at")
    missed += part("bench_training.py", "--seeds", "3")
    if importlib.util.find_spec("ray"):
        missed += part("bench_ray.py")
    if missed:
        sys.exit("\n".join(["missed:", *missed]))


if __name__ == "__main__":
    main()
