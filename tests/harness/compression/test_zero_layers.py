"""A convolution that is zero already stays zero, whatever the method; nothing is divided by its largest weight."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from harness.compression.count import denormals, ratios, size
from harness.compression.job import Job
from harness.compression.methods.lowbit import DoReFaWeight
from harness.compression.table import METHODS
from harness.models.architectures import build
from harness.models.packed import round_trip

RATES = [(name, method.default) for name, method in METHODS.items() if not method.teachers] + [("lowbit", "w1a1"), ("lowbit", "w8a8")]


@pytest.mark.parametrize("layers", [("stages.1.0.conv2",), ("stages.0.0.conv1", "stages.0.0.conv2"), ("conv1",)])
@pytest.mark.parametrize(("method", "rate"), RATES)
def test_a_layer_of_zeros(make_job: Callable[..., Job], method: str, rate: str, layers: tuple[str, ...]) -> None:
    network = build("resnet8", 10)
    for layer in layers:
        nn.init.zeros_(network.get_submodule(layer).weight)
    job = make_job(method, rate, network=network, epochs=1, pattern=next(iter(METHODS[method].patterns), "irregular"))
    done = METHODS[method].run(job).eval()
    for name, tensor in (done.state_dict() | round_trip(done.state_dict())).items():
        assert tensor.isfinite().all(), name
    if method in ("lowbit", "ptq-int8", "qat-int8"):  # those that hold the zeros of a pruned network
        for layer in layers:
            assert not done.get_submodule(layer).weight.any(), layer


def test_a_network_of_zeros_counts() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.Flatten(), nn.Linear(16, 2, bias=False)).requires_grad_(False)
    full = size(network, (3, 2, 2))
    for weight in network.parameters():
        weight.zero_()
    assert ratios(full, size(network, (3, 2, 2)))["nonzero"] == 44


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_no_level_stands_for_a_layer_of_zeros(bits: int) -> None:
    weight = torch.zeros(4, 3, 3, 3, requires_grad=True)
    found = DoReFaWeight(bits)(weight)
    found.sum().backward()
    assert not found.any() and weight.grad is not None and weight.grad.isfinite().all()


def test_denormal_weights_are_counted() -> None:
    layer = nn.Linear(4, 1)
    layer.weight.data = torch.tensor([[1e-39, -1e-40, 0.0, 1e-30]])
    assert denormals(layer) == 2
