"""How small a network is, counted on its weights: oracles."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from harness.compression.count import Size, grid, ratios, size, weight_bits, zero_macs
from harness.compression.masks import irregular
from harness.compression.methods.lowbit import DoReFaWeight, SymmetricWeight
from harness.models.architectures import build
from harness.models.packed import pack

SHAPE = (32, 16, 3, 3)


def dense() -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))


N = dense().numel()
ORACLES = {
    "float": (dense(), 32, 32 * N),
    "INT8": (SymmetricWeight()(dense()), 8, None),
    **{f"w{bits}": (DoReFaWeight(bits)(dense()), bits, None) for bits in range(1, 9)},
    "90 % zero": (dense() * irregular(dense(), 0.9), 32, 32 * round(N * 0.1)),
    "INT8, 90 % zero": (SymmetricWeight()(dense() * irregular(dense(), 0.9)), 8, None),
    "w1, half of it zero": (DoReFaWeight(1)(dense()) * irregular(dense(), 0.5), 1, N // 2 + 2 * 32),
    "zero": (torch.zeros(SHAPE), 1, 0),
    "a vector": (torch.ones(64), 32, 32 * 64),
}


@pytest.mark.parametrize("case", ORACLES)
def test_bits_of_a_weight(case: str) -> None:
    weight, bits, total = ORACLES[case]
    found, table = grid(weight)
    assert found == bits
    nonzero = int(weight.count_nonzero())
    assert weight_bits(weight) == (total if total is not None else bits * nonzero + 32 * table)
    if case.startswith("w") and total is None:
        assert table <= 2**bits
    if case.startswith("INT8"):
        assert table == 32


def test_noise_takes_a_weight_off_its_grid() -> None:
    for bits in (1, 4):
        assert grid(DoReFaWeight(bits)(dense()) + 1e-4 * dense())[0] == 32
    assert grid(SymmetricWeight()(dense()) * (1 + 1e-3 * dense()))[0] == 32


def test_a_grid_that_costs_more_than_float_does_not_count() -> None:
    one_each = torch.randn(64, 1, 1, 1)  # every output its own scale: 8 + 32 bits
    assert grid(one_each)[0] == 8
    assert weight_bits(one_each) == 32 * 64


def test_a_small_tensor_of_floats_is_not_a_grid() -> None:
    assert grid(torch.randn(10, 5))[0] == 32


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
    assert found.macs - found.macs_nonzero == zero_macs(network, (3, 8, 8)) == 64 * 54 + 16 * 4 + 160
    pack(network.state_dict(), tmp_path / "n.safetensors")
    assert found.file_bytes == (tmp_path / "n.safetensors").stat().st_size
    assert found.weight_bits == 32 * found.nonzero


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
