"""How small a network really is: counted on its weights, never taken from the rate that was asked for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.compression.rate import FULL
from harness.models import probe

GRID = 2**8  # more distinct values than this are float


@dataclass(frozen=True)
class Size:
    """One network.

    Attributes:
        parameters: all of them.
        nonzero: those that are not zero.
        weight_bits: bits of the non-zero parameters: each tensor's non-zeros times the bits that tell its levels apart. Where the zeros
            stand is not counted.
        file_bytes: of the weights' file.
        macs: multiply-accumulates for one image.
        macs_nonzero: those whose weight is not zero.
    """

    parameters: int
    nonzero: int
    weight_bits: int
    file_bytes: int
    macs: int
    macs_nonzero: int


def level_bits(tensor: Tensor) -> int:
    """Bits that tell the non-zero levels of a weight (outputs, …) apart, up to one scale per output: 1 to 8, or 32 for float."""
    if tensor.ndim < 2:
        return FULL
    scale = tensor.flatten(1).abs().amax(1).clamp_min(1e-12).view(-1, *[1] * (tensor.ndim - 1))
    levels = ((tensor / scale) * 1e5).round()
    count = len(torch.unique(levels[levels != 0]))
    return FULL if count > GRID or count > tensor.count_nonzero() / 2 else max(1, (count - 1).bit_length())


def size(network: nn.Module, input_shape: tuple[int, int, int], file_bytes: int) -> Size:
    """Count a network whose input is (channels, height, width)."""
    total, nonzero = probe.parameters(network)
    weights = list(network.parameters())
    macs = probe.macs(network, input_shape)
    return Size(
        parameters=total,
        nonzero=nonzero,
        weight_bits=sum(int(w.count_nonzero()) * level_bits(w.detach()) for w in weights),
        file_bytes=file_bytes,
        macs=macs,
        macs_nonzero=macs - zero_macs(network, input_shape),
    )


def zero_macs(network: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Multiply-accumulates with a weight that is zero, for one image."""
    found = 0

    def count(layer: nn.Conv2d | nn.Linear, _: object, output: Tensor) -> None:
        nonlocal found
        pixels = output.shape[2] * output.shape[3] if output.ndim == 4 else 1
        found += (layer.weight.numel() - int(layer.weight.count_nonzero())) * pixels

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    try:
        with torch.no_grad():
            network(torch.zeros(1, *input_shape))
    finally:
        for handle in handles:
            handle.remove()
    return found


def ratios(before: Size, after: Size) -> dict[str, float]:
    """The compression ratio gamma, by each way of counting."""
    ways = ("parameters", "nonzero", "weight_bits", "file_bytes", "macs", "macs_nonzero")
    return {way: round(getattr(before, way) / getattr(after, way), 3) for way in ways}
