"""How small a network really is: counted on its weights, never taken from the rate that was asked for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.compression.rate import FULL
from harness.models import grids, probe
from harness.models.normalisation import without_normalisation
from harness.models.packed import packed_bytes

INT8_BITS = 8


@dataclass(frozen=True)
class Size:
    """One network.

    Attributes:
        parameters: all of them.
        nonzero: those that are not zero.
        weight_bits: bits of the non-zero parameters: for each tensor its non-zeros times the bits that tell its levels apart, and the
            table of the levels or scales in float32. Where the zeros stand is not counted.
        file_bytes: of the weights' packed file (`harness.models.packed`), which has float16 where nothing smaller holds the values.
        macs: multiply-accumulates for one image.
        macs_nonzero: those whose weight is not zero.
    """

    parameters: int
    nonzero: int
    weight_bits: int
    file_bytes: int
    macs: int
    macs_nonzero: int


def grid(tensor: Tensor) -> tuple[int, int]:
    """(bits that tell the non-zero levels of a weight (outputs, …) apart: 1 to 8, or 32 for float; entries of its table)."""
    if tensor.ndim < 2:
        return FULL, 0
    if (levels := grids.levels(tensor)) is not None:
        count = int(levels.count_nonzero())
        return max(1, (count - 1).bit_length()), count
    return (INT8_BITS, len(tensor)) if grids.int8(tensor) is not None else (FULL, 0)


def weight_bits(tensor: Tensor) -> int:
    """Bits of the non-zero entries of one parameter, with its table; float where that is less."""
    bits, table = grid(tensor)
    nonzero = int(tensor.count_nonzero())
    return min(FULL * nonzero, bits * nonzero + FULL * table)


def size(network: nn.Module, input_shape: tuple[int, int, int]) -> Size:
    """Count a network in eval mode whose input is (channels, height, width)."""
    total, nonzero = probe.parameters(network)
    macs = probe.macs(network, input_shape)
    return Size(
        parameters=total,
        nonzero=nonzero,
        weight_bits=sum(weight_bits(weight.detach()) for weight in network.parameters()),
        file_bytes=packed_bytes(without_normalisation(network).state_dict()),
        macs=macs,
        macs_nonzero=macs - zero_macs(network, input_shape),
    )


def zero_macs(network: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Multiply-accumulates with a weight that is zero, for one image, of convolutions and linear layers."""
    found = 0

    def count(layer: nn.Conv2d | nn.Linear, _: object, output: Tensor) -> None:
        nonlocal found
        places = output.numel() // layer.weight.shape[0]  # of each filter: pixels, or tokens
        found += (layer.weight.numel() - int(layer.weight.count_nonzero())) * places

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
