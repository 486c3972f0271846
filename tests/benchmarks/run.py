"""`make benchmark`: speed and memory of the whole, and of its parts against the plain way, in one run. Use an idle machine."""

from __future__ import annotations

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
    _, _, usage = os.wait4(process.pid, 0)
    return time.monotonic() - started, usage.ru_maxrss / 2**20


def part(script: str, *words: str) -> None:
    """One benchmark script, its lines indented."""
    print(f"\n{script}", flush=True)
    done = subprocess.run([sys.executable, str(HERE / script), *words], stdout=subprocess.PIPE, text=True, check=True)
    print("".join(f"  {line}\n" for line in done.stdout.splitlines()), flush=True)


def main() -> None:
    """Print every figure with its limit."""
    helps = [timed([*HARNESS, "--help"])[0] for _ in range(6)][1:]
    print(f"harness --help: median {statistics.median(helps):.2f} s of {len(helps)} (limit 0.40 s)")
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        seconds, peak = timed([*HARNESS, "bench", "--out", str(run)])
        print(f"harness bench: {seconds:.0f} s (limit 120 s), peak {peak:.2f} GiB (limit 2.5 GB = 2.33 GiB)", flush=True)
        artefacts = {path.name.split("-")[0]: path for path in sorted((run / "artefacts").glob("*.onnx"))}
        fp32, int8 = artefacts["onnx"], artefacts["ort"]
        for path in (fp32, int8):
            part("bench_latency.py", str(path))
        part("bench_int8.py", str(fp32), str(int8))
    part("bench_attacks.py", "--model", "resnet18x16-at")
    part("bench_training.py")


if __name__ == "__main__":
    main()
