"""HYDRA: which weights to keep is learnt against the adversary, then the rest is fine-tuned."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn.utils import parametrize

from harness.compression.job import Job
from harness.compression.masks import PATTERNS, Projection, above_zero, bake, dense, hold, patterns, prunable


class Scored(nn.Module):
    """weight -> weight * pattern(|scores|); the gradient passes straight through the pattern to the scores."""

    def __init__(self, weight: Tensor, projection: Projection, rate: float) -> None:
        super().__init__()
        self.scores = nn.Parameter(initial_scores(weight))
        self.projection, self.rate = projection, rate

    def mask(self) -> Tensor:
        """Zeros and ones, of the weight's shape."""
        return self.projection(self.scores.detach(), self.rate)

    def forward(self, weight: Tensor) -> Tensor:
        """Keep the shape of `weight`."""
        magnitude = self.scores.abs()
        return weight * (self.mask() + (magnitude - magnitude.detach()))


def initial_scores(weight: Tensor) -> Tensor:
    """The paper's scaled initialisation: sqrt(6 / fan_in) * w / max|w|; zeros of a layer of zeros."""
    return math.sqrt(6 / weight[0].numel()) * weight / above_zero(weight.abs().max())


def hydra(job: Job) -> nn.Module:
    """Learn importance scores with the weights frozen, keep the top, fine-tune with the mask frozen.

    Every layer keeps the same share, but the first convolution and the linear layers stay dense (the paper prunes them too, which leaves a
    small network more to lose and less in all). While the scores are learnt, batch norms train on as in the published code: their
    statistics, scale and shift move with the mask.

    Source: Sehwag et al., "HYDRA: Pruning Adversarially Robust Neural Networks", NeurIPS 2020, section 3.
    """
    layers = prunable(job.network, job.pattern)
    job.notes["dense_layers"] = dense(job.network, layers)
    patterns(layers, job.pattern, job.sparsity)  # refuses a rate out of reach before any training
    freeze(job.network)
    for layer in layers.values():
        score = Scored(layer.weight.detach(), PATTERNS[job.pattern], job.sparsity)
        parametrize.register_parametrization(layer, "weight", score)
    job.train("prune")
    masks = {name: learnt(layer).mask() for name, layer in layers.items()}
    bake(job.network)
    hold(job.network, masks)
    if job.until != "prune":
        job.train("finetune")
    return bake(job.network)


def freeze(network: nn.Module) -> None:
    """Fix every parameter but those of batch norms."""
    network.requires_grad_(False)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.requires_grad_()


def learnt(layer: nn.Conv2d) -> Scored:
    """The scores that a layer was trained with."""
    found = layer.parametrizations.weight[0]  # type: ignore[index, union-attr]
    assert isinstance(found, Scored)  # noqa: S101
    return found
