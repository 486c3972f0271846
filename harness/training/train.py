"""The training loop: data in memory, one-cycle schedule, a checkpoint each epoch, selection on held-out images."""

from __future__ import annotations

import math
import pickle
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from harness.data.dataset import Dataset, to_tensor
from harness.errors import UntrustedError, UsageError
from harness.models.zoo import ARCHITECTURES
from harness.progress import Track
from harness.training.objectives import cross_entropy
from harness.training.recipe import Recipe, Stage
from harness.training.regime import Regime

VALIDATION_STEPS = 7
# What reading a damaged checkpoint raises.
DAMAGE = (
    zipfile.BadZipFile, pickle.UnpicklingError, OSError, EOFError, RuntimeError, LookupError, TypeError, ValueError, AttributeError,
)  # fmt: skip


@dataclass(frozen=True)
class Epoch:
    """What one epoch showed. Accuracies are shares of the held-out training images."""

    number: int
    loss: float
    clean: float
    robust: float | None


def split(labels: np.ndarray, holdout: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Stratified split of the training set: (indices to train on, indices held out)."""
    rng = np.random.default_rng(seed)
    classes = np.unique(labels)
    held = np.concatenate([rng.permutation(np.flatnonzero(labels == c))[: holdout // len(classes)] for c in classes])
    return np.setdiff1d(np.arange(len(labels)), held), np.sort(held)


def augment(x: Tensor, generator: torch.Generator, pad: int = 4) -> Tensor:
    """Random horizontal flip and a random crop out of a zero-padded image, each image its own. Shape (n, c, h, w) is kept."""
    n, _, h, w = x.shape
    flip = torch.rand(n, generator=generator) < 0.5
    x = torch.where(flip[:, None, None, None], x.flip(3), x)
    padded = F.pad(x, (pad, pad, pad, pad))
    top, left = torch.randint(0, 2 * pad + 1, (2, n), generator=generator)
    rows = (top[:, None] + torch.arange(h))[:, :, None]
    columns = (left[:, None] + torch.arange(w))[:, None, :]
    return padded[torch.arange(n)[:, None, None], :, rows, columns].permute(0, 3, 1, 2)


def accuracy(network: nn.Module, data: Dataset, stage: Stage, robust: bool) -> float:
    """Share of `data` classified correctly, clean or after a short PGD of steps eps/4 (selection only: fast, not a claim)."""
    network.eval()
    eps, right = stage.eps / 255, 0
    for start in range(0, len(data), 500):
        x, y = to_tensor(data.images[start : start + 500]), torch.from_numpy(data.labels[start : start + 500])
        worst = x
        for _ in range(VALIDATION_STEPS if robust else 0):
            worst = worst.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(cross_entropy(network, worst, y, stage), worst)
            worst = (worst.detach() + eps / 4 * gradient.sign()).clamp(x - eps, x + eps).clamp(0, 1)
        with torch.no_grad():
            right += int((network(worst).argmax(1) == y).sum())
    return right / len(data)


def moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential moving average whose decay rises to `decay` over the first steps, so that early averages forget the random start."""

    def average(old: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
        if not old.is_floating_point():
            return new
        seen = float(count)
        return old.lerp(new, 1 - min(decay, (1 + seen) / (10 + seen)))

    return average


def learning_rate(stage: Stage, step: int, steps: int) -> float:
    """The rate at `step` of `steps`, by the stage's schedule.

    One-cycle is a cosine from lr/25 up to lr and a cosine down to lr/250,000 (Smith and Topin, "Super-Convergence", 2018).
    """
    if stage.schedule == "steps":
        passed = sum(step >= milestone * steps / stage.epochs for milestone in stage.milestones)
        return stage.lr * 0.1**passed
    peak = stage.warmup * steps if stage.schedule == "one-cycle" else 0
    start, end = stage.lr / 25, stage.lr / 250_000
    if step < peak:
        return start + (stage.lr - start) * (1 - math.cos(math.pi * step / peak)) / 2
    return end + (stage.lr - end) * (1 + math.cos(math.pi * (step - peak) / (steps - peak))) / 2


class Training:
    """One training of `network`, in place and resumable: its whole state is `state()` and comes back through `restore()`.

    Only parameters that require a gradient are trained.

    Raises:
        UsageError: fewer images than the stage needs to hold out.
    """

    def __init__(self, stage: Stage, data: Dataset, network: nn.Module, regime: Regime | None = None) -> None:
        if len(data) < 2 * stage.holdout:
            raise UsageError(f"stage {stage.name} holds out {stage.holdout} images; {data.name} has only {len(data)}")
        self.stage, self.data_sha256, self.regime = stage, data.sha256, regime or Regime()
        train, held = split(data.labels, stage.holdout, stage.seed)
        self.held = data.subset(held)
        self.images, self.labels = torch.from_numpy(data.images[train]), torch.from_numpy(data.labels[train])
        self.generator = torch.Generator().manual_seed(stage.seed)
        self.network = network.to(memory_format=torch.channels_last)
        self.averaged = AveragedModel(self.network, avg_fn=moving_average(stage.average), use_buffers=True)
        self.steps_per_epoch = len(train) // stage.batch
        self.optimizer = torch.optim.SGD(
            [p for p in self.network.parameters() if p.requires_grad],
            lr=stage.lr,
            momentum=stage.momentum,
            weight_decay=stage.weight_decay,
            nesterov=stage.momentum > 0,
        )
        self.history: list[Epoch] = []
        self.best: dict[str, Tensor] = {}

    def epoch(self) -> Epoch:
        """Train for one epoch, validate the averaged weights, and keep them if they are the best so far.

        Raises:
            UntrustedError: the loss is not finite.
        """
        stage, total = self.stage, 0.0
        order = torch.randperm(len(self.images), generator=self.generator)
        number = self.regime.epoch = len(self.history) + 1
        with Track(f"{stage.name}: epoch {number}/{stage.epochs}", self.steps_per_epoch * stage.batch) as track:
            for step in range(self.steps_per_epoch):
                index = order[step * stage.batch : (step + 1) * stage.batch]
                x = augment(self.images[index].permute(0, 3, 1, 2), self.generator).float().div(255)
                self.network.train()
                for group in self.optimizer.param_groups:
                    group["lr"] = learning_rate(stage, (number - 1) * self.steps_per_epoch + step, stage.epochs * self.steps_per_epoch)
                loss = self.regime.loss(
                    self.network, x.contiguous(memory_format=torch.channels_last), self.labels[index], stage, self.generator
                )
                if not math.isfinite(loss.item()):
                    raise UntrustedError(
                        f"loss is {loss.item()} in {stage.name}, epoch {number}, step {step}: lower lr ({stage.lr}) or set bf16 = false"
                    )
                self.optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                self.optimizer.step()
                self.averaged.update_parameters(self.network)
                total += loss.item()
                track.advance(len(index), f"loss {total / (step + 1):.3f}")
        self.regime.after_epoch(self.network, number)
        return self._validate(number, total / self.steps_per_epoch)

    def _validate(self, number: int, loss: float) -> Epoch:
        adversarial = self.stage.objective != "standard"
        clean = accuracy(self.averaged.module, self.held, self.stage, robust=False)
        robust = accuracy(self.averaged.module, self.held, self.stage, robust=True) if adversarial else None
        seen = Epoch(number, loss, clean, robust)
        if not self.best or self.regime.keep == "last" or self.score(seen) > max(map(self.score, self.history)):
            self.best = {k: v.clone().contiguous() for k, v in self.averaged.module.state_dict().items()}
        self.history.append(seen)
        return seen

    @staticmethod
    def score(epoch: Epoch) -> float:
        """What selection maximises: robust accuracy where the objective is adversarial, else clean accuracy."""
        return epoch.clean if epoch.robust is None else epoch.robust

    def state(self) -> dict[str, Any]:
        """Everything needed to go on: tensors, plain containers and numbers only."""
        return {
            "stage": self.stage.model_dump_json(),
            "data_sha256": self.data_sha256,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "regime": self.regime.state(),
            "generator": self.generator.get_state(),
            "best": self.best,
            "history": [(e.number, e.loss, e.clean, e.robust) for e in self.history],
        }

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            UntrustedError: the checkpoint is damaged, or belongs to another stage or other data.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:  # torch.load does not look at the checksums
                    raise zipfile.BadZipFile("a checksum differs")
            self._restore(path, torch.load(path, weights_only=True))
        except DAMAGE as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UntrustedError(f"{path} is damaged: {reason}. Delete it to train from the start, or choose another --out.") from error

    def _restore(self, path: Path, state: dict[str, Any]) -> None:
        for key, now in (("stage", self.stage.model_dump_json()), ("data_sha256", self.data_sha256)):
            if state[key] != now:
                raise UntrustedError(
                    f"{path} was made with another {key.split('_')[0]}: {state[key]} then, {now} now. Choose another --out."
                )
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.regime.restore(state["regime"])
        self.generator.set_state(state["generator"])
        self.best, self.history = state["best"], [Epoch(*e) for e in state["history"]]


def fit(stage: Stage, data: Dataset, network: nn.Module, out: Path, regime: Regime | None = None) -> list[Epoch]:
    """Train `network` in place, a checkpoint after every epoch in `out/checkpoint.pt`; go on from it where there is one.

    Returns:
        Every epoch's figures. The network holds the averaged weights of the best epoch on held-out images (or of the last, where the
        regime says so), and is in eval mode.

    Raises:
        UsageError: too few images.
        UntrustedError: the loss is not finite, or the checkpoint is damaged or of another stage.
    """
    out.mkdir(parents=True, exist_ok=True)
    run, checkpoint = Training(stage, data, network, regime), out / "checkpoint.pt"
    if checkpoint.exists():
        run.restore(checkpoint)
    while len(run.history) < stage.epochs:
        seen = run.epoch()
        robust = "" if seen.robust is None else f", robust {seen.robust:.2%} (PGD-{VALIDATION_STEPS})"
        print(
            f"{stage.name}, epoch {seen.number}: loss {seen.loss:.3f}, held-out clean {seen.clean:.2%}{robust}", file=sys.stderr, flush=True
        )
        for warning in warnings(run.history):
            print(f"warning: {warning}", file=sys.stderr, flush=True)
        torch.save(run.state(), checkpoint.with_suffix(".tmp"))
        checkpoint.with_suffix(".tmp").replace(checkpoint)
    network.load_state_dict(run.best)
    network.eval()
    return run.history


def warnings(history: list[Epoch]) -> list[str]:
    """What the last epoch should make its reader stop for."""
    *before, last = history
    best = max((e.robust for e in before if e.robust is not None), default=0.0)
    if last.robust is not None and last.robust < best / 2:
        return [
            f"robust accuracy fell from {best:.1%} to {last.robust:.1%}: catastrophic overfitting to the training attack. "
            "Use more inner steps or a lower rate; the best epoch so far is kept."
        ]
    return []


def train(recipe: Recipe, data: Dataset, out: Path) -> tuple[Path, list[Epoch]]:
    """Train a fresh network by `recipe`; see `fit`.

    Returns:
        `out/NAME.safetensors`, and every epoch's figures.

    Raises:
        UsageError: unknown architecture.
    """
    if recipe.arch not in ARCHITECTURES:
        raise UsageError(f"recipe {recipe.name}: unknown arch '{recipe.arch}'. Choices: {', '.join(ARCHITECTURES)}.")
    torch.manual_seed(recipe.seed)
    network = ARCHITECTURES[recipe.arch](data.classes)
    history = fit(recipe, data, network, out)
    weights = out / f"{recipe.name}.safetensors"
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, weights)
    return weights, history
