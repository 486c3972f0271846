"""How many steps per second does adversarial training make, against the plainest correct loop? Prints ratios; not a pytest test.

    python tests/benchmarks/bench_training.py [--arch resnet18x16] [--objective n-fgsm] [--steps 12] [--rounds 5] [--data cifar10-sample]

Plain: float32, images as they come, the same objective, augmentation, optimizer and schedule, nothing else. Ours: `Training`, with all it
does in a step (bfloat16 where the processor has it, channels-last, moving average, check of the loss). The two take turns in one process,
so that both see the same machine, and train on the same batches. Limit: at least 1.8 times the plain steps per second.

Both networks are then judged on the same held-out images, by their last weights; with --seeds the difference of the two loops is held
against the spread between seeds. After so few steps that says only that both learn alike; longer trainings say more, for example

    python tests/benchmarks/bench_training.py --arch resnet8 --data cifar10 --steps 375 --rounds 6 --seeds 5
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from scipy.stats import t as student_t
from torch import Tensor, nn
from torch.nn import functional as F

from harness.audit.statistics import share
from harness.compute.precision import native_bf16
from harness.data.dataset import Dataset
from harness.data.load import load_all, load_data
from harness.models.architectures import build
from harness.training.recipe import Stage
from harness.training.selection import correct
from harness.training.train import Training, augment, learning_rate

RATIO = 1.8
WARM = 2  # steps of each that are not timed


class Plain:
    """The textbook's loop."""

    def __init__(self, stage: Stage, network: nn.Module, images: Tensor, labels: Tensor, total: int) -> None:
        self.stage, self.network, self.images, self.labels, self.total, self.done = stage, network, images, labels, total, 0
        self.generator = torch.Generator().manual_seed(stage.seed)
        self.optimizer = torch.optim.SGD(
            network.parameters(), stage.lr, momentum=stage.momentum, weight_decay=stage.weight_decay, nesterov=True
        )

    def noise(self, x: Tensor) -> Tensor:
        return torch.rand(x.shape, generator=self.generator) * 2 - 1

    def worst(self, x: Tensor, y: Tensor) -> Tensor:
        eps = self.stage.eps / 255
        if self.stage.objective == "standard":
            return x
        single = self.stage.objective == "n-fgsm"
        steps, size = (1, eps) if single else (self.stage.steps, eps * max(0.25, 1.25 / self.stage.steps))
        found = x + self.noise(x) * (2 * eps if single else eps)
        self.network.eval()
        for _ in range(steps):
            found = found.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(self.network(found), y), found)
            found = found.detach() + size * gradient.sign()
            found = found.clamp(0, 1) if single else found.clamp(x - eps, x + eps).clamp(0, 1)
        self.network.train()
        return found

    def step(self, index: Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.stage, self.done, self.total)
        x, y = augment(self.images[index].permute(0, 3, 1, 2), self.generator, self.augmentation).float().div(255), self.labels[index]
        loss = F.cross_entropy(self.network(self.worst(x, y)), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.done += 1


class Ours:
    """The engine's own step, at the same learning rates."""

    def __init__(self, run: Training, total: int) -> None:
        self.run, self.total, self.done = run, total, 0

    def step(self, index: Tensor) -> None:
        for group in self.run.optimizer.param_groups:
            group["lr"] = learning_rate(self.run.stage, self.done, self.total)
        self.run.step(*self.run.batch(index), self.run.generator, f"step {self.done}")
        self.done += 1


def batches(count: int, size: int, seed: int) -> Iterator[Tensor]:
    """Indices of batches without end, every image once before any comes again."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(count, generator=generator)
        yield from (order[i * size : (i + 1) * size] for i in range(count // size))


def seconds(loop: Plain | Ours, indices: list[Tensor]) -> float:
    started = time.perf_counter()
    for index in indices:
        loop.step(index)
    return time.perf_counter() - started


@dataclass(frozen=True)
class Comparison:
    """Of one seed. `ratios`: of each round's seconds, plain over ours; `right`: (plain, ours) of the `held` held-out images, by kind."""

    ratios: list[float]
    plain_per_s: float
    ours_per_s: float
    right: dict[str, tuple[int, int]]
    held: int


def compare(options: argparse.Namespace, data: Dataset, seed: int) -> Comparison:
    """Train both loops from the same start on the same batches, in turns."""
    stage = Stage(
        name="bench", objective=options.objective, epochs=1, batch=options.batch, lr=0.1, holdout=min(2000, len(data) // 5),
        steps=2, seed=seed,
    )  # fmt: skip
    total = WARM + options.steps * options.rounds
    torch.manual_seed(seed)
    networks = [build(options.arch, data.classes) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    run = Training(stage, data, networks[1])
    loops = [Plain(stage, networks[0].train(), run.images, run.labels, total), Ours(run, total)]
    source = batches(len(run.images), stage.batch, stage.seed)
    times: list[list[float]] = [[], []]
    warm = [next(source) for _ in range(WARM)]
    for loop in loops:
        seconds(loop, warm)
    for turn in range(options.rounds):
        indices = [next(source) for _ in range(options.steps)]
        for which in (0, 1) if turn % 2 else (1, 0):
            times[which].append(seconds(loops[which], indices))
    plain, ours = (options.steps / statistics.median(found) for found in times)
    right = {}
    for kind, robust in (("clean", False), ("robust", True)):
        plainly, here = (correct(network, run.held, stage, robust) for network in networks)
        right[kind] = (plainly, here)
    return Comparison([plain / ours for plain, ours in zip(*times, strict=True)], plain, ours, right, len(run.held))


def judged(one: Comparison) -> Iterator[str]:
    """How many held-out images each loop of one seed has right."""
    for which, name in enumerate(("plain", "here")):
        shares = {kind: share(right[which], one.held) for kind, right in one.right.items()}
        parts = [f"{kind} {s.accuracy:.1%} [{s.ci95[0]:.1%}, {s.ci95[1]:.1%}]" for kind, s in shares.items()]
        yield f"{name:6} {', '.join(parts)} of {one.held} held-out images"


def over_seeds(found: list[Comparison]) -> Iterator[str]:
    """What two or more seeds say together: the difference of the two loops beside the spread of one."""
    for kind in found[0].right:
        plain, here = ([one.right[kind][i] / one.held for one in found] for i in (0, 1))
        told = f"{kind:6} accuracy: {statistics.mean(plain):.1%} plain, {statistics.mean(here):.1%} here"
        gaps = [b - a for a, b in zip(plain, here, strict=True)]
        error = statistics.stdev(gaps) / len(gaps) ** 0.5
        spread = max(statistics.stdev(plain), statistics.stdev(here))
        allowed = float(student_t.ppf(0.975, len(gaps) - 1)) * max(error, spread / len(gaps) ** 0.5)
        verdict = "ok" if abs(statistics.mean(gaps)) <= allowed else "MISSED"
        yield (
            f"{told}; difference {100 * statistics.mean(gaps):+.2f} ± {100 * error:.2f} points (standard error of {len(gaps)} seeds), "
            f"spread of one loop's seeds {100 * spread:.2f}, limit {100 * allowed:.2f} (t, 95 %)   {verdict}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet18x16")
    parser.add_argument("--objective", default="n-fgsm", choices=("standard", "n-fgsm", "pgd-at"))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=12, help="of each loop in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", default="cifar10-sample", help="cifar10-sample, cifar10 or FILE.npz")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each loop, from --seed on")
    options = parser.parse_args()

    data = (
        load_data(options.data, input_shape=None, classes=None, seed=0)[0] if options.data == "cifar10-sample" else load_all(options.data)
    )
    print(
        f"{options.arch}, {options.objective}, batch {options.batch}, {torch.get_num_threads()} threads, bfloat16 {native_bf16()}, "
        f"{options.rounds} rounds of {options.steps} steps",
        flush=True,
    )
    found = []
    for seed in range(options.seed, options.seed + options.seeds):
        one = compare(options, data, seed)
        found.append(one)
        print(f"seed {seed}: {one.plain_per_s:.2f} steps/s plain, {one.ours_per_s:.2f} here", flush=True)
        for line in judged(one):
            print(line, flush=True)
    ratios = [ratio for one in found for ratio in one.ratios]
    verdict = "ok" if statistics.median(ratios) >= RATIO or options.objective != "n-fgsm" else "MISSED"
    print(
        f"{statistics.median(ratios):.2f} times as fast, the median of {len(ratios)} rounds ({min(ratios):.2f}-{max(ratios):.2f}; "
        f"limit {RATIO} for n-fgsm)   {verdict}"
    )
    for line in over_seeds(found) if len(found) > 1 else ():
        print(line)


if __name__ == "__main__":
    main()
