"""How small a network really is: counted on its weights, never taken from the rate that was asked for."""

from __future__ import annotations

from collections.abc import Iterator
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
        weight_bits: bits that store the parameters: for each tensor its entries at float32 or at the bits that tell its levels apart, with
            the table of the levels or scales in float32; where it takes less, only the entries that are not zero, with a mask of one bit
            per entry that says where they stand.
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


def encodings(tensor: Tensor) -> Iterator[tuple[int, int, int]]:
    """The ways to write a weight (outputs, …): bits of an entry among those that are not zero, bits among all, entries of the table."""
    yield FULL, FULL, 0
    if tensor.ndim < 2:
        return
    if (levels := grids.levels(tensor)) is not None:
        yield grids.width(int(levels.count_nonzero())), grids.width(len(levels)), len(levels)
    elif grids.int8(tensor) is not None:
        yield INT8_BITS, INT8_BITS, len(tensor)


def weight_bits(tensor: Tensor) -> int:
    """Bits that store one parameter, the least of every way: all entries, or a mask of one bit each and those that are not zero."""
    entries, nonzero = tensor.numel(), int(tensor.count_nonzero())
    return min(min(every * entries, entries + kept * nonzero) + FULL * table for kept, every, table in encodings(tensor))


def size(network: nn.Module, input_shape: tuple[int, int, int]) -> Size:
    """Count a network in eval mode whose input is (channels, height, width)."""
    total, nonzero = probe.parameters(network)
    macs, of_zeros = probe.macs_and_zeros(network, input_shape)
    return Size(
        parameters=total,
        nonzero=nonzero,
        weight_bits=sum(weight_bits(weight.detach()) for weight in network.parameters()),
        file_bytes=packed_bytes(without_normalisation(network).state_dict()),
        macs=macs,
        macs_nonzero=macs - of_zeros,
    )


def denormals(network: nn.Module) -> int:
    """Parameters that are denormal numbers of float32, below 1.2e-38: no use to the network, and slow on many CPUs."""
    tiny = torch.finfo(torch.float32).tiny
    return sum(int(((weight != 0) & (weight.detach().abs() < tiny)).sum()) for weight in network.parameters())


def ratios(before: Size, after: Size) -> dict[str, float]:
    """The compression ratio gamma, by each way of counting; of a network with nothing left, as if one were."""
    ways = ("parameters", "nonzero", "weight_bits", "file_bytes", "macs", "macs_nonzero")
    return {way: round(getattr(before, way) / max(getattr(after, way), 1), 3) for way in ways}
