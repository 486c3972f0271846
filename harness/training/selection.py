"""Which epoch is kept: accuracy on held-out training images, and the warnings that it gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from pyautoattack.square import SquareAttack
from torch import nn
from torch.nn import functional as F

from harness.attacks.gradient import seeded
from harness.data.dataset import Dataset, to_tensor
from harness.training import processes
from harness.training.folding import folded
from harness.training.objectives import logits
from harness.training.recipe import Stage
from harness.training.regime import Regime

VALIDATION_STEPS = 7


@dataclass(frozen=True)
class Epoch:
    """What one epoch showed. Accuracies are shares of the held-out training images."""

    number: int
    loss: float
    clean: float
    robust: float | None


@dataclass(frozen=True)
class Fitted:
    """A finished training: every epoch's figures, those of the epoch whose weights were kept, how many images were held out, and how many
    queries of Square they met besides PGD."""

    history: list[Epoch]
    kept: Epoch
    held_out: int
    queries: int = 0


def split(labels: np.ndarray, holdout: int) -> tuple[np.ndarray, np.ndarray]:
    """Stratified split of the training set: (indices to train on, indices held out), as many of each class, but never most of one.

    The same whatever the seed of the training: a network that goes on from a trained one must not be judged on what that was trained on.
    """
    rng = np.random.default_rng(0)
    classes = np.unique(labels)
    members = [rng.permutation(np.flatnonzero(labels == c)) for c in classes]
    held = np.concatenate([own[: min(holdout // len(classes), len(own) // 2)] for own in members])
    return np.setdiff1d(np.arange(len(labels)), held), np.sort(held)


def correct(network: nn.Module, data: Dataset, stage: Stage, robust: bool, queries: int = 0) -> int:
    """How many of `data` are classified correctly, clean or after a short PGD of steps eps/4 (selection only: fast, not a claim).

    With `queries`, those that withstand PGD must withstand so many queries of Square too.
    """
    network.eval()
    eps, right, place = stage.eps / 255, 0, next(network.parameters()).device
    for start in range(0, len(data), 500):
        x, y = to_tensor(data.images[start : start + 500]).to(place), torch.from_numpy(data.labels[start : start + 500]).to(place)
        worst = x
        with folded(network):
            for _ in range(VALIDATION_STEPS if robust else 0):
                worst = worst.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(F.cross_entropy(logits(network, worst, stage), y), worst)
                worst = (worst.detach() + eps / 4 * gradient.sign()).clamp(x - eps, x + eps).clamp(0, 1)
        with torch.no_grad(), seeded(stage.seed):
            left = network(worst).argmax(1) == y
            if robust and queries and left.any():
                square = SquareAttack(network, norm="Linf", eps=eps, n_queries=queries, seed=stage.seed, device=place)
                left = network(square.perturb(x[left], y[left])).argmax(1) == y[left]
            right += int(left.sum())
    return right


def held_out(network: nn.Module, share: Dataset, count: int, stage: Stage, queries: int = 0) -> tuple[float, float | None]:
    """(clean, robust) accuracy on `count` held-out images, of which this process has `share`; no robust one of a standard training."""
    clean = processes.total(correct(network, share, stage, robust=False)) / count
    if stage.objective == "standard":
        return clean, None
    return clean, processes.total(correct(network, share, stage, robust=True, queries=queries)) / count


def selection_attacks(queries: int) -> list[str]:
    """What a held-out image must withstand to count as robust, where epochs are compared."""
    return [f"PGD-{VALIDATION_STEPS}", *([f"Square-{queries}"] if queries else [])]


def summary(stage: Stage, history: list[Epoch], seconds: float, regime: Regime) -> str:
    """The last epoch, what is left of the stage at so many seconds an epoch, and warnings: a line each."""
    seen = history[-1]
    robust = "" if seen.robust is None else f", robust {seen.robust:.2%} ({' and '.join(selection_attacks(regime.queries))})"
    left = seconds * (stage.epochs - seen.number)
    line = (
        f"{stage.name}, epoch {seen.number}/{stage.epochs}: loss {seen.loss:.3f}, held-out clean {seen.clean:.2%}{robust}; "
        f"{seconds:.0f} s an epoch, {left / 60:.0f} min left"
    )
    return "\n".join([line, *(f"warning: {warning}" for warning in warnings(history, regime.keep))])


def warnings(history: list[Epoch], keep: str = "best") -> list[str]:
    """What the last epoch should make its reader stop for, where the `keep` (best or last) epoch will be kept."""
    *before, last = history
    if last.robust is None:
        return []
    best = max((e.robust for e in before if e.robust is not None), default=0.0)
    fell = f"fell from {best:.1%} to {last.robust:.1%}" if last.robust < best / 2 else ""
    absent = f"is {last.robust:.1%} where clean accuracy is {last.clean:.1%}" if last.robust < last.clean / 10 else ""
    if what := fell or absent:
        return [
            f"robust accuracy {what}: catastrophic overfitting to the training attack. "
            f"Use more inner steps or a lower rate; the {keep} epoch{' so far' * (keep == 'best')} is kept."
        ]
    return []
