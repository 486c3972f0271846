"""A network with weights of fewer bits, for attacks that are to transfer to quantized networks. Activations stay as they are."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)  # of the largest weight: few bits are better spent on the many small ones


def of_fewer_bits(module: nn.Module, images: Tensor, bits: int) -> nn.Module | None:
    """A copy whose weights are rounded to so many bits; None where that changes nothing, as of a network that rounds them as coarsely.

    Args:
        module: in evaluation mode; left as it is.
        images: a few, float32 (n, c, h, w), on which a change is seen.
        bits: at least 2.
    """
    coarse = copy.deepcopy(module).eval()
    with torch.no_grad():
        for weight in {*coarse.parameters(), *coarse.buffers()}:
            if weight.ndim > 1 and weight.is_floating_point():
                weight.copy_(rounded(weight, bits))
        return None if torch.equal(coarse(images), module(images)) else coarse


def rounded(weight: Tensor, bits: int) -> Tensor:
    """Symmetric uniform quantization of weights (out, ...), of each output channel at the one of `CLIPS` with the least squared error."""
    flat, levels = weight.flatten(1), 2 ** (bits - 1) - 1
    largest = flat.abs().amax(1, keepdim=True).clamp_min(torch.finfo(flat.dtype).tiny)
    found = torch.stack([(flat / (step := clip * largest / levels)).round().clamp(-levels, levels) * step for clip in CLIPS])
    best = (found - flat).square().sum(2).argmin(0)
    return found[best, torch.arange(len(flat), device=flat.device)].view_as(weight)
