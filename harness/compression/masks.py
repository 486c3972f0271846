"""Weights held in a sparsity pattern while they are trained: the projections that choose a pattern, and masks as parametrizations.

Every projection keeps an exact number of entries, ties included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from harness.errors import UsageError

GROUP, KEPT = 4, 2  # 2:4: at most two non-zeros in every four consecutive input channels
TOLERANCE = 0.1  # of the share kept: beyond it a rate counts as out of reach
PRUNED = 0.1  # share of exact zeros that no training leaves by chance, and no INT8 grid (1 to 2 %)


class Masked(nn.Module):
    """weight -> weight * mask. The gradient of a masked entry is zero."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        """Keep the shape of `weight`."""
        return weight * self.mask


def above_zero(largest: Tensor) -> Tensor:
    """A largest magnitude, or norm, made safe to divide by: what it scales is zero where it is zero."""
    return largest.clamp_min(torch.finfo(largest.dtype).tiny)


def kept(entries: int, rate: float) -> int:
    """How many of `entries` stay at sparsity `rate` in [0, 1): at least one."""
    return max(1, round((1 - rate) * entries))


def largest(score: Tensor, k: int) -> Tensor:
    """Mask of exactly the `k` largest entries of `score`, of any shape."""
    mask = torch.zeros(score.numel(), dtype=score.dtype, device=score.device)
    mask[score.flatten().topk(k).indices] = 1
    return mask.view_as(score)


def irregular(score: Tensor, rate: float) -> Tensor:
    """The largest |score| of the whole layer, anywhere."""
    return largest(score.abs(), kept(score.numel(), rate))


def filters(score: Tensor, rate: float) -> Tensor:
    """Whole filters: the rows (dimension 0) of the largest L2 norm."""
    rows = largest(score.flatten(1).norm(dim=1), kept(score.shape[0], rate))
    return rows.view(-1, *[1] * (score.ndim - 1)).expand_as(score).contiguous()


def columns(score: Tensor, rate: float) -> Tensor:
    """Whole columns of the filter matrix (outputs x inputs * kernel) of the largest L2 norm: the same places in every filter."""
    matrix = score.flatten(1)
    return largest(matrix.norm(dim=0), kept(matrix.shape[1], rate)).expand_as(matrix).contiguous().view(score.shape)


def two_of_four(score: Tensor, rate: float = 1 - KEPT / GROUP) -> Tensor:
    """The best two of every four consecutive input channels (dimension 1), for each output and kernel position.

    Source: Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021, section 3.
    """
    moved = score.abs().movedim(1, -1)
    groups = moved.reshape(*moved.shape[:-1], -1, GROUP)
    best = groups.topk(KEPT, dim=-1).indices
    return torch.zeros_like(groups).scatter_(-1, best, 1).flatten(-2).movedim(-1, 1).contiguous()


Projection = Callable[[Tensor, float], Tensor]
PATTERNS: dict[str, Projection] = {"irregular": irregular, "filter": filters, "column": columns, "2:4": two_of_four}


def prunable(network: nn.Module, pattern: str) -> dict[str, nn.Conv2d]:
    """The convolutions that a pattern may prune, by name.

    All but the first, which sees the image, and grouped ones; for 2:4 the input channels must come in fours.
    """
    found = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)]
    return {n: layer for n, layer in found[1:] if layer.groups == 1 and not (pattern == "2:4" and layer.in_channels % GROUP)}


def dense(network: nn.Module, pruned: dict[str, nn.Conv2d]) -> list[str]:
    """Names of the convolutions and linear layers that stay dense."""
    return [name for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear) and name not in pruned]


def patterns(layers: dict[str, nn.Conv2d], pattern: str, rate: float) -> dict[str, Tensor]:
    """A mask per layer, from its present weights.

    Raises:
        UsageError: the layers are too small for the rate, or the pattern has another; says the nearest.
    """
    masks = {name: PATTERNS[pattern](layer.weight.detach(), rate) for name, layer in layers.items()}
    left = sum(int(mask.count_nonzero()) for mask in masks.values()) / max(1, sum(mask.numel() for mask in masks.values()))
    if not masks or abs(left - (1 - rate)) > TOLERANCE * (1 - rate):
        nearest = f"the nearest here is {1 - left:.4f}" if masks else "it has no convolution that may be pruned"
        raise UsageError(f"--rate {rate:g}: this network cannot be pruned so with pattern {pattern}; {nearest}")
    return masks


def pruned_before(network: nn.Module) -> dict[str, Tensor]:
    """Masks of the convolutions that a pruning has been through, by name: of their weights, a tenth or more are exactly zero."""
    masks = {name: (layer.weight.detach() != 0).float() for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)}
    return {name: mask for name, mask in masks.items() if mask.mean() <= 1 - PRUNED}


def hold(network: nn.Module, masks: dict[str, Tensor]) -> None:
    """From now on the weight of each layer that is named is multiplied by its mask."""
    for name, mask in masks.items():
        parametrize.register_parametrization(network.get_submodule(name), "weight", Masked(mask))


def layers_with_weights(network: nn.Module) -> Iterator[nn.Conv2d | nn.Linear]:
    """Every convolution and linear layer, in order."""
    return (layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear))


def bake(network: nn.Module) -> nn.Module:
    """Make every parametrized weight a plain parameter of its present value, and every parameter trainable; returns the network."""
    for layer in layers_with_weights(network):
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    return network.requires_grad_()
