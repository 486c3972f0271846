"""What does it cost that PyTorch's threads soon sleep while they wait (`harness.compute.openmp`), and what does it gain? Not a pytest test.

    python tests/benchmarks/bench_waiting.py [--rounds 3]

Gradients of a network, in turns with threads that spin, that sleep at once, and as this program sets them: with nothing else on the
machine, and with a program on every core; of 128 images, and of 8.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from contextlib import ExitStack
from statistics import median

from machine import machine_line

from harness.compute import openmp

MODEL = "resnet18x16-at"
SIZES = {128: 10, 8: 60}  # images: gradients
WAYS = {"spinning": {"OMP_WAIT_POLICY": "active"}, "sleeping": {"OMP_WAIT_POLICY": "passive"}, "as set here": openmp.SETTINGS}
GRADIENTS = f"""
import sys, time, torch
from harness.attacks.gradient import fast, frozen_eval, loss_gradient
from harness.models.load import load_twin
batch, times = map(int, sys.argv[1:])
images, labels = torch.rand(batch, 3, 32, 32), torch.zeros(batch, dtype=torch.int64)
form = fast(load_twin({MODEL!r}).module, images)
def gradient():
    x = images.clone().requires_grad_()
    loss_gradient(form(x), labels, x)
with frozen_eval(form):
    gradient()
    start = time.perf_counter()
    for _ in range(times):
        gradient()
    print(batch * times / (time.perf_counter() - start))
"""


def gradients_per_s(way: str, batch: int) -> float:
    """Images per second in a process whose threads wait in that way."""
    environment = {name: value for name, value in os.environ.items() if name not in openmp.SETTINGS} | WAYS[way]
    command = [sys.executable, "-c", GRADIENTS, str(batch), str(SIZES[batch])]
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print(machine_line())
    for others in (0, os.cpu_count() or 1):
        with ExitStack() as stack:
            for _ in range(others):
                other = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
                stack.callback(other.kill)
            for batch in SIZES:
                rows = [[gradients_per_s(way, batch) for way in WAYS] for _ in range(rounds)]
                speeds = dict(zip(WAYS, (median(column) for column in zip(*rows, strict=True)), strict=True))
                print(
                    f"{others} other programs, {batch} images: {', '.join(f'{way} {speed:,.0f}' for way, speed in speeds.items())} images/s"
                )


if __name__ == "__main__":
    main()
