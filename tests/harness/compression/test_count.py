"""How small a network is, counted on its weights: oracles."""

from __future__ import annotations

from math import lgamma, log
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from harness.compression.count import Size, ratios, size, weight_bits
from harness.compression.masks import irregular
from harness.compression.methods.lowbit import DoReFaWeight, SymmetricWeight
from harness.models.architectures import build
from harness.models.packed import pack

SHAPE = (32, 16, 3, 3)


def dense() -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))


N = dense().numel()
TENTH, HALF = round(N * 0.1), N // 2  # entries left by a pruning of 90 % and of 50 %
MASK = N  # bits: one per entry


def levels(weight: Tensor) -> int:
    return len(weight.unique())


def quantized(bits: int) -> Tensor:
    return DoReFaWeight(bits)(dense())


ORACLES = {
    "float": (dense(), 32 * N),
    "INT8": (SymmetricWeight()(dense()), 8 * N + 32 * 32),
    **{f"w{bits}": (quantized(bits), bits * N + 32 * levels(quantized(bits))) for bits in range(1, 9)},
    "90 % zero": (dense() * irregular(dense(), 0.9), MASK + 32 * TENTH),
    "99 % zero: the mask is three quarters of it": (dense() * irregular(dense(), 0.99), MASK + 32 * 46),
    "1 % zero: a mask does not pay": (dense() * irregular(dense(), 0.01), 32 * N),
    "INT8, 90 % zero": (SymmetricWeight()(dense() * irregular(dense(), 0.9)), MASK + 8 * TENTH + 32 * 32),
    "w1, half of it zero: less than two bits each": (quantized(1) * irregular(dense(), 0.5), MASK + HALF + 32 * 3),
    "w2, a zero that costs a third bit": (quantized(2) * irregular(dense(), 0.01), min(3 * N, MASK + 2 * round(N * 0.99)) + 32 * 5),
    "zero": (torch.zeros(SHAPE), MASK),
    "a vector": (torch.ones(64), 32 * 64),
    "a vector, half of it zero": ((torch.arange(64) % 2).float(), 64 + 32 * 32),
}


@pytest.mark.parametrize("case", ORACLES)
def test_bits_of_a_weight(case: str) -> None:
    weight, bits = ORACLES[case]
    assert weight_bits(weight) == bits


def test_noise_takes_a_weight_off_its_grid() -> None:
    for bits in (1, 4):
        assert weight_bits(quantized(bits) + 1e-4 * dense()) == 32 * N
    assert weight_bits(SymmetricWeight()(dense()) * (1 + 1e-3 * dense())) == 32 * N


def test_a_grid_that_costs_more_than_float_does_not_count() -> None:
    one_each = torch.randn(64, 1, 1, 1)  # every output its own scale: 8 + 32 bits
    assert weight_bits(one_each) == 32 * 64


def test_a_small_tensor_of_floats_is_not_a_grid() -> None:
    assert weight_bits(torch.randn(10, 5)) == 32 * 50


@pytest.mark.parametrize("case", [case for case in ORACLES if "vector" not in case])
def test_no_count_is_below_what_tells_the_weights_apart(case: str) -> None:
    """Of so many entries that are zero, and others at least, no code tells all arrangements apart in fewer bits than their logarithm."""
    weight, bits = ORACLES[case]
    zeros = N - int(weight.count_nonzero())
    assert bits >= (lgamma(N + 1) - lgamma(zeros + 1) - lgamma(N - zeros + 1)) / log(2)


def test_a_network_is_counted_layer_by_layer(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1, stride=2, groups=2), nn.Flatten(), nn.Linear(4 * 16, 5))
    with torch.no_grad():
        network[0].weight[:2] = 0
        network[1].weight[0] = 0
        network[3].weight[:, ::2] = 0
    found = size(network.eval(), (3, 8, 8))
    assert found.parameters == 3 * 9 * 8 + 8 + 4 * 4 + 4 + 5 * 64 + 5
    assert found.nonzero == found.parameters - 54 - 4 - 160
    assert found.macs == 64 * 216 + 16 * 16 + 320
    assert found.macs - found.macs_nonzero == 64 * 54 + 16 * 4 + 160
    pack(network.state_dict(), tmp_path / "n.safetensors")
    assert found.file_bytes == (tmp_path / "n.safetensors").stat().st_size
    masked = (216, 54), (16, 4), (320, 160)  # entries and zeros of the three weights: a mask pays in each
    assert found.weight_bits == 32 * (8 + 4 + 5) + sum(entries + 32 * (entries - zeros) for entries, zeros in masked)


def test_zero_weights_that_a_layer_lends_to_a_function_are_counted() -> None:
    """Attention multiplies by `out_proj.weight` and never calls that layer; its weights for queries, keys and values are of no layer."""
    network = nn.Sequential(nn.Flatten(2), nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True)).eval().requires_grad_(False)
    for weight in network.parameters():
        if weight.ndim > 1:
            weight[:, ::2] = 0
    found = size(network, (5, 4, 4))
    assert 2 * found.macs_nonzero == found.macs == 5 * (4 * 16 * 16 + 2 * 16 * 32)


def test_ratios_are_before_over_after() -> None:
    before, after = Size(100, 90, 3200, 400, 1000, 900), Size(50, 9, 100, 80, 1000, 100)
    assert ratios(before, after) == {
        "parameters": 2.0, "nonzero": 10.0, "weight_bits": 32.0, "file_bytes": 5.0, "macs": 1.0, "macs_nonzero": 9.0,
    }  # fmt: skip


def test_the_count_of_a_whole_network_at_8x() -> None:
    """Convolutions but the first at 8x: the ratio of non-zero parameters is what the dense rest leaves of it."""
    torch.manual_seed(0)
    network = build("resnet18x16", 10)
    whole = size(network, (3, 32, 32))
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)][1:]
    with torch.no_grad():
        for layer in convolutions:
            layer.weight *= irregular(layer.weight, 0.875)
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.bias.fill_(0.1)
    pruned = size(network, (3, 32, 32))
    removed = sum(layer.weight.numel() - round(layer.weight.numel() / 8) for layer in convolutions)
    assert pruned.nonzero == whole.parameters - removed
    assert 7 < whole.parameters / pruned.nonzero < 8
