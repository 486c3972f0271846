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
from harness.training.objectives import OBJECTIVES
from harness.training.recipe import Recipe

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


def accuracy(network: nn.Module, data: Dataset, recipe: Recipe, robust: bool) -> float:
    """Share of `data` classified correctly, clean or after a short PGD of steps eps/4 (selection only: fast, not a claim)."""
    network.eval()
    eps, right = recipe.eps / 255, 0
    for start in range(0, len(data), 500):
        x, y = to_tensor(data.images[start : start + 500]), torch.from_numpy(data.labels[start : start + 500])
        worst = x
        for _ in range(VALIDATION_STEPS if robust else 0):
            worst = worst.detach().requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16):
                loss = F.cross_entropy(network(worst), y)
            (gradient,) = torch.autograd.grad(loss, worst)
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


class Training:
    """One training run, resumable: its whole state is `state()` and comes back through `restore()`.

    Raises:
        UsageError: unknown architecture, or fewer images than the recipe holds out.
    """

    def __init__(self, recipe: Recipe, data: Dataset) -> None:
        if recipe.arch not in ARCHITECTURES:
            raise UsageError(f"recipe {recipe.name}: unknown arch '{recipe.arch}'. Choices: {', '.join(ARCHITECTURES)}.")
        if len(data) < 2 * recipe.holdout:
            raise UsageError(f"recipe {recipe.name} holds out {recipe.holdout} images; {data.name} has only {len(data)}")
        self.recipe, self.data_sha256 = recipe, data.sha256
        train, held = split(data.labels, recipe.holdout, recipe.seed)
        self.held = data.subset(held)
        self.images, self.labels = torch.from_numpy(data.images[train]), torch.from_numpy(data.labels[train])
        torch.manual_seed(recipe.seed)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        network = ARCHITECTURES[recipe.arch](data.classes)
        self.network = network.to(memory_format=torch.channels_last)
        self.averaged = AveragedModel(self.network, avg_fn=moving_average(recipe.average), use_buffers=True)
        self.steps_per_epoch = len(train) // recipe.batch
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=recipe.lr,
            total_steps=recipe.epochs * self.steps_per_epoch,
            pct_start=recipe.warmup,
            cycle_momentum=False,
        )
        self.history: list[Epoch] = []
        self.best: dict[str, Tensor] = {}

    def epoch(self) -> Epoch:
        """Train for one epoch, validate the averaged weights, and keep them if they are the best so far.

        Raises:
            UntrustedError: the loss is no longer finite.
        """
        objective, total = OBJECTIVES[self.recipe.objective], 0.0
        order = torch.randperm(len(self.images), generator=self.generator)
        number = len(self.history) + 1
        with Track(f"epoch {number}/{self.recipe.epochs}", self.steps_per_epoch * self.recipe.batch) as track:
            for step in range(self.steps_per_epoch):
                index = order[step * self.recipe.batch : (step + 1) * self.recipe.batch]
                x = augment(self.images[index].permute(0, 3, 1, 2), self.generator).float().div(255)
                self.network.train()
                loss = objective(
                    self.network, x.contiguous(memory_format=torch.channels_last), self.labels[index], self.recipe, self.generator
                )
                if not math.isfinite(loss.item()):
                    raise UntrustedError(
                        f"loss is {loss.item()} at epoch {number}, step {step}: lower lr ({self.recipe.lr}) or set bf16 = false"
                    )
                self.optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                self.optimizer.step()
                self.schedule.step()
                self.averaged.update_parameters(self.network)
                total += loss.item()
                track.advance(len(index), f"loss {total / (step + 1):.3f}")
        return self._validate(number, total / self.steps_per_epoch)

    def _validate(self, number: int, loss: float) -> Epoch:
        adversarial = self.recipe.objective != "standard"
        clean = accuracy(self.averaged.module, self.held, self.recipe, robust=False)
        robust = accuracy(self.averaged.module, self.held, self.recipe, robust=True) if adversarial else None
        seen = Epoch(number, loss, clean, robust)
        if not self.best or self.score(seen) > max(map(self.score, self.history)):
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
            "recipe": self.recipe.model_dump_json(),
            "data_sha256": self.data_sha256,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": {k: v for k, v in self.schedule.state_dict().items() if isinstance(v, int | float)},
            "generator": self.generator.get_state(),
            "best": self.best,
            "history": [(e.number, e.loss, e.clean, e.robust) for e in self.history],
        }

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            UntrustedError: the checkpoint is damaged, or belongs to another recipe or other data.
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
        for key, now in (("recipe", self.recipe.model_dump_json()), ("data_sha256", self.data_sha256)):
            if state[key] != now:
                raise UntrustedError(
                    f"{path} was made with another {key.split('_')[0]}: {state[key]} then, {now} now. Choose another --out."
                )
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"])
        self.best, self.history = state["best"], [Epoch(*e) for e in state["history"]]


def train(recipe: Recipe, data: Dataset, out: Path) -> tuple[Path, list[Epoch]]:
    """Train `recipe` on `data`; go on from `out/checkpoint.pt` where there is one.

    Returns:
        `out/NAME.safetensors`, the averaged weights of the best epoch on held-out images, and every epoch's figures.
    """
    out.mkdir(parents=True, exist_ok=True)
    run, checkpoint = Training(recipe, data), out / "checkpoint.pt"
    if checkpoint.exists():
        run.restore(checkpoint)
    while len(run.history) < recipe.epochs:
        seen = run.epoch()
        robust = "" if seen.robust is None else f", robust {seen.robust:.2%} (PGD-{VALIDATION_STEPS})"
        print(f"epoch {seen.number}: loss {seen.loss:.3f}, held-out clean {seen.clean:.2%}{robust}", file=sys.stderr, flush=True)
        torch.save(run.state(), checkpoint.with_suffix(".tmp"))
        checkpoint.with_suffix(".tmp").replace(checkpoint)
    weights = out / f"{recipe.name}.safetensors"
    save_file(run.best, weights)
    return weights, run.history
