"""Low-bitwidth networks: weights and activations on few levels, trained through the rounding; and weights on the INT8 grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from harness.compression.job import Job
from harness.compression.masks import above_zero, bake, hold, layers_with_weights, pruned_before
from harness.compression.rate import FULL
from harness.models import grids
from harness.models.straight import straight_round
from harness.models.variants import quantize, quantize_activations, with_variant
from harness.training.regime import Regime

EDGES = "INT8"  # the first and the last layer's weights, unless the whole network is in float


class DoReFaWeight(nn.Module):
    """weight -> weight on 2^bits levels in [-1, 1], the gradient straight through the rounding; one bit: sign(w) * mean|w|, gradient 1.

    A layer of zeros stays zero, though the grid has no such level.

    Source: Zhou et al., "DoReFa-Net", 2016, section 2.3.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        """Keep the shape of `weight`."""
        if self.bits == 1:
            scale = weight.detach().abs().mean()
            return torch.where(weight.detach() >= 0, scale, -scale) + (weight - weight.detach())
        squashed = weight.tanh()
        largest = squashed.abs().max()
        return (2 * quantize(squashed / (2 * above_zero(largest)) + 0.5, self.bits) - 1) * (largest > 0)


class SymmetricWeight(nn.Module):
    """weight -> weight on the INT8 grid of each output channel, [-127, 127] * max|w| / 127, rounding straight through."""

    def forward(self, weight: Tensor) -> Tensor:
        """Keep the shape of `weight` (outputs, …)."""
        scale = grids.per_output(weight.detach().flatten(1).abs().amax(1).clamp_min(1e-12) / grids.INT8, weight)
        return straight_round(weight / scale) * scale


class FewLevels(Regime):
    """Of activations on few levels, which hide the gradient that PGD follows: epochs are compared by an attack without gradients too."""

    queries = 50


def lowbit(job: Job) -> nn.Module:
    """Quantize weights and activations to the bits asked for and train; the first and the last layer's weights are on the INT8 grid.

    The input image is left as it is (it is uint8 already); the last layer's output is not quantized. The INT8 grid keeps the scale of the
    weights, which in the last layer no batch norm would give back. The DoReFa grid is exact in symmetric INT8 up to seven bits; it has no
    zero, so the zeros of a pruned network are held behind it.
    """
    weight_bits, activation_bits = job.bits
    masks = pruned_before(job.network)
    if activation_bits < FULL:
        quantize_activations(job.network, activation_bits)
        job.arch = with_variant(job.arch, f"a{activation_bits}")
    if weight_bits < FULL:
        layers = list(layers_with_weights(job.network))
        for layer in layers:
            grid = SymmetricWeight() if layer in (layers[0], layers[-1]) else DoReFaWeight(weight_bits)
            parametrize.register_parametrization(layer, "weight", grid)
        job.notes["weight_bits"] = {"first": EDGES, "middle": weight_bits, "last": EDGES}
    hold(job.network, masks)
    return bake(job.train("train", FewLevels() if activation_bits < FULL else None))


def ptq_int8(job: Job) -> nn.Module:
    """Every weight rounded to INT8, symmetric per output channel; no training. The activations are quantized by the INT8 flavours."""
    for layer in layers_with_weights(job.network):
        parametrize.register_parametrization(layer, "weight", SymmetricWeight())
    return bake(job.network)


def qat_int8(job: Job) -> nn.Module:
    """Quantization-aware training: fine-tuned with weights on the INT8 grid and activations rounded to 8 bits of each batch's range.

    Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018.
    The rounding of activations is taken off at the end: the INT8 flavours put theirs in its place. A pruned network's zeros stay.
    """
    masks = pruned_before(job.network)
    for layer in layers_with_weights(job.network):
        parametrize.register_parametrization(layer, "weight", SymmetricWeight())
    hold(job.network, masks)
    handles = [layer.register_forward_pre_hook(_round_input) for layer in layers_with_weights(job.network)]
    job.train("finetune")
    for handle in handles:
        handle.remove()
    return bake(job.network)


def _round_input(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Asymmetric 8-bit rounding of a layer's input over the batch's range."""
    (x,) = inputs
    low, high = x.detach().amin().clamp_max(0), x.detach().amax().clamp_min(0)
    scale = ((high - low) / 255).clamp_min(1e-12)
    return (straight_round((x - low) / scale) * scale + low,)
