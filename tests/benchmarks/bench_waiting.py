"""What does it cost that PyTorch's threads sleep while they wait (`harness.compute.openmp`), and what does it gain? Not a pytest test.

    python tests/benchmarks/bench_waiting.py [--rounds 3]

Gradients of a network, in turns with either policy: with nothing else on the machine, and with a program on every core.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from contextlib import ExitStack
from statistics import median

from machine import machine_line

MODEL, BATCH, TIMES = "resnet18x16-at", 128, 10
GRADIENTS = f"""
import time, torch
from harness.attacks.gradient import fast, frozen_eval, loss_gradient
from harness.models.load import load_twin
images, labels = torch.rand({BATCH}, 3, 32, 32), torch.zeros({BATCH}, dtype=torch.int64)
form = fast(load_twin({MODEL!r}).module, images)
def gradient():
    x = images.clone().requires_grad_()
    loss_gradient(form(x), labels, x)
with frozen_eval(form):
    gradient()
    start = time.perf_counter()
    for _ in range({TIMES}):
        gradient()
    print({BATCH * TIMES} / (time.perf_counter() - start))
"""


def gradients_per_s(policy: str) -> float:
    """Images per second in a process of that policy."""
    done = subprocess.run(
        [sys.executable, "-c", GRADIENTS], env=os.environ | {"OMP_WAIT_POLICY": policy}, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


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
            speeds = [(gradients_per_s("active"), gradients_per_s("passive")) for _ in range(rounds)]
        spinning, sleeping = (median(column) for column in zip(*speeds, strict=True))
        print(f"{others} other programs: spinning {spinning:,.0f}, sleeping {sleeping:,.0f} images/s: {sleeping / spinning:.2f} times")


if __name__ == "__main__":
    main()
