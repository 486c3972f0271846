"""Are the attacks as strong as the libraries called the plain way, and how much faster? Prints ratios; not a pytest test.

    python tests/benchmarks/bench_attacks.py --model resnet18x16-at [--data cifar10-sample] [--samples 256] [--eps 8/255]

Same steps, norm, radius and seed. Plain: Foolbox's and AutoAttack's own calls on the whole batch, in float32. Ours: `make_set`, everything
included (snapping, testing again, files), and `worst_case`. The two alternate in one process, so that both see the same machine. Limits:
robust accuracy within 1 point, time at most 0.6 of the plain one, and 0.35 for the worst case over the three.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import foolbox
import numpy as np
import torch
from pyautoattack import AutoAttack
from pyautoattack.autopgd_base import APGDAttack
from torch import Tensor, nn

from harness.attacks.sets import make_set
from harness.attacks.table import resolve
from harness.attacks.worst_case import worst_case
from harness.compute.precision import native_bf16
from harness.data.dataset import Dataset, to_tensor
from harness.data.load import load_data
from harness.data.split import stratified
from harness.eps import parse_eps
from harness.models.load import load_twin

NAMES = ("pgd", "apgd-ce", "apgd-dlr")
POINTS, RATIO, WORST_RATIO = 1.0, 0.6, 0.35


@dataclass(frozen=True)
class Outcome:
    """Who is still right, bool (n,); wall and processor seconds."""

    right: np.ndarray
    wall_s: float
    cpu_s: float

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())


def timed(work: Callable[[], np.ndarray]) -> Outcome:
    wall, cpu = time.perf_counter(), time.process_time()
    with contextlib.redirect_stderr(io.StringIO()):
        right = work()
    return Outcome(right, time.perf_counter() - wall, time.process_time() - cpu)


def plain(name: str, model: nn.Module, x: Tensor, y: Tensor, eps: float, seed: int) -> np.ndarray:
    """The library as its own documentation calls it."""
    if name == "pgd":
        torch.manual_seed(seed)
        attack = foolbox.attacks.LinfPGD(rel_stepsize=0.25, steps=20)
        _, found, _ = attack(foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu"), x, y, epsilons=eps)
    else:
        auto = AutoAttack(model, attacks=[name], version="custom", eps=eps, seed=seed)
        # Its schedule of step sizes is set in the constructor: changing `auto.apgd.n_iter` alone would keep that of 100 steps.
        auto.apgd = APGDAttack(model, n_iter=50, n_restarts=1, eps=eps, seed=seed, device="cpu", logger=auto.logger)
        found, _ = auto.run_standard_evaluation(x, y)
    with torch.no_grad():
        return ((model(x).argmax(1) == y) & (model(found).argmax(1) == y)).numpy()


def ours(name: str, model: nn.Module, data: Dataset, eps: Fraction, seed: int, folder: Path) -> np.ndarray:
    _, images = make_set(model, data, np.arange(len(data)), resolve(name), eps, seed, source="S1", folder=folder)
    x, found, y = to_tensor(data.images), to_tensor(images[:]), torch.from_numpy(data.labels)
    with torch.no_grad():
        return ((model(x).argmax(1) == y) & (model(found).argmax(1) == y)).numpy()


def line(name: str, library: Outcome, own: Outcome, limit: float) -> str:
    points = 100 * (own.accuracy - library.accuracy)
    wall, cpu = own.wall_s / library.wall_s, own.cpu_s / library.cpu_s
    verdict = "ok" if abs(points) <= POINTS and wall <= limit else "MISSED"
    robust = f"robust {library.accuracy:7.2%} plain, {own.accuracy:7.2%} here ({points:+.2f} points)"
    seconds = f"{library.wall_s:6.1f} s plain, {own.wall_s:6.1f} s here, wall {wall:.2f}x (limit {limit}x), processor {cpu:.2f}x"
    return f"{name:12} {robust}   {seconds}   {verdict}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18x16-at")
    parser.add_argument("--arch")
    parser.add_argument("--data", default="cifar10-sample")
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--eps", type=parse_eps, default=Fraction(8, 255))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    twin = load_twin(options.model, arch=options.arch)
    test, _ = load_data(options.data, input_shape=twin.input_shape, classes=twin.classes, seed=options.seed)
    data = test.subset(stratified(test.labels, options.samples, options.seed))
    x, y, model = to_tensor(data.images), torch.from_numpy(data.labels), twin.module
    print(f"{twin.name}, {len(data)} images of {data.name}, eps {options.eps}, {torch.get_num_threads()} threads, bfloat16 {native_bf16()}")

    libraries = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in NAMES:
            libraries[name] = timed(lambda name=name: plain(name, model, x, y, float(options.eps), options.seed))
            own = timed(lambda name=name: ours(name, model, data, options.eps, options.seed, Path(folder)))
            print(line(name, libraries[name], own, RATIO), flush=True)
    attacks = [resolve(name) for name in NAMES]
    own = timed(lambda: worst_case(model, data, np.arange(len(data)), attacks, options.eps, options.seed).survives)
    everyone = list(libraries.values())
    together = Outcome(
        np.logical_and.reduce([library.right for library in everyone]),
        sum(library.wall_s for library in everyone),
        sum(library.cpu_s for library in everyone),
    )
    print(line("worst case", together, own, WORST_RATIO))


if __name__ == "__main__":
    main()
