"""RAP-ADMM: robustness-aware pruning by the alternating direction method of multipliers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from harness.compression.job import Job
from harness.compression.masks import PATTERNS, bake, dense, hold, patterns, prunable
from harness.training.recipe import Stage
from harness.training.regime import Regime


class ADMM(Regime):
    """Adversarial training with the penalty rho/2 * sum ||W - Z + U||^2, where Z lies in the pattern and U is the scaled dual.

    Between the loss's steps, every `every` epochs: Z <- project(W + U), U <- U + W - Z, rho <- growth * rho (and U <- U / growth, since
    the scaled dual is the dual over rho). Z and U are constants of the loss.

    The published code updates before every `every`-th epoch, here it is after it: the last update, after the last epoch, only sets Z for
    the residual that is reported.

    Source: Ye et al., "Adversarial Robustness vs. Model Compression, or Both?", ICCV 2019, equations 5 to 8.
    """

    keep = "last"

    def __init__(self, layers: dict[str, nn.Conv2d], pattern: str, rate: float, rho: float, growth: float, every: int) -> None:
        self.layers, self.pattern, self.rate = layers, pattern, rate
        self.rho, self.growth, self.every = rho, growth, every
        self.residuals: list[float] = []
        self.dual = {name: torch.zeros_like(layer.weight) for name, layer in layers.items()}
        self.target = {name: self._project(layer.weight.detach()) for name, layer in layers.items()}

    def _project(self, weight: Tensor) -> Tensor:
        return weight * PATTERNS[self.pattern](weight, self.rate)

    def loss(self, network: nn.Module, x: Tensor, y: Tensor, stage: Stage, generator: torch.Generator) -> Tensor:
        """The stage's objective and the penalty."""
        return super().loss(network, x, y, stage, generator) + self.penalty()

    def penalty(self) -> Tensor:
        """rho/2 * sum over layers of ||W - Z + U||^2, a scalar."""
        distances = ((layer.weight - self.target[name] + self.dual[name]).square().sum() for name, layer in self.layers.items())
        return self.rho / 2 * torch.stack(list(distances)).sum()

    def after_epoch(self, network: nn.Module, number: int) -> None:
        """Update Z, U and rho when it is their turn, and note how far the weights are from the pattern."""
        if number % self.every == 0:
            with torch.no_grad():
                for name, layer in self.layers.items():
                    self.target[name] = self._project(layer.weight + self.dual[name])
                    self.dual[name] = (self.dual[name] + layer.weight - self.target[name]) / self.growth
            self.rho *= self.growth
        self.residuals.append(self.residual())

    def residual(self) -> float:
        """||W - Z|| / ||W|| over all layers: 0 where the weights lie in the pattern."""
        with torch.no_grad():
            off = sum((layer.weight - self.target[name]).square().sum().item() for name, layer in self.layers.items())
            whole = sum(layer.weight.square().sum().item() for layer in self.layers.values())
        return math.sqrt(off / whole) if whole else 0.0

    def state(self) -> dict[str, Tensor]:
        """Z and U by layer, rho, and the residuals so far."""
        tensors = {f"{kind}.{name}": t for kind, part in (("dual", self.dual), ("target", self.target)) for name, t in part.items()}
        return {
            **tensors,
            "rho": torch.tensor(self.rho, dtype=torch.float64),
            "residuals": torch.tensor(self.residuals, dtype=torch.float64),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        self.dual = {name: state[f"dual.{name}"].to(layer.weight) for name, layer in self.layers.items()}
        self.target = {name: state[f"target.{name}"].to(layer.weight) for name, layer in self.layers.items()}
        self.rho, self.residuals = float(state["rho"]), state["residuals"].tolist()


def radmm(job: Job) -> nn.Module:
    """Pull the weights into the pattern while training against the adversary, prune them, retrain with the mask fixed.

    The first convolution stays dense, besides the linear layers and batch norms that the paper leaves.

    Source: Ye et al., ICCV 2019; constants of their experiments: rho 1e-3, growing by 1.3 every 20 of 200 epochs.
    """
    layers = prunable(job.network, job.pattern)
    job.notes["dense_layers"] = dense(job.network, layers)
    patterns(layers, job.pattern, job.sparsity)  # refuses a rate out of reach before any training
    every = max(1, round(job.option("every", job.recipe.stages["admm"].epochs / 10)))
    admm = ADMM(layers, job.pattern, job.sparsity, job.option("rho", 1e-3), job.option("growth", 1.3), every)
    job.train("admm", admm)
    job.notes["admm_residual"] = admm.residuals
    hold(job.network, patterns(layers, job.pattern, job.sparsity))
    if job.until == "admm":
        job.judge("admm")  # what was held out has met the weights before they were pruned
    else:
        job.train("retrain")
    return bake(job.network)
