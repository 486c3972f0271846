"""A network without its quantizers: what is left is the same network with the rounding taken out, and nothing else."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from harness.models.onnx_quantize import dequantize, fake_quantize, quantize
from harness.models.smooth import Smooth, without_quantizers
from harness.models.straight import left_out, straight_cast, straight_ceil, straight_floor, straight_round, straight_sign, straight_trunc
from harness.models.variants import QuantizedReLU, quantize_activations


def network(bits: int | None) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 5)).eval()
    if bits is not None:
        quantize_activations(model, bits)
    return model


def images() -> Tensor:
    return torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_it_is_the_network_with_the_ramp_in_place_of_the_steps(bits: int) -> None:
    rounded = network(bits)
    smooth = without_quantizers(rounded, images())
    assert smooth is not None
    ramp = copy.deepcopy(rounded)
    for index, layer in enumerate(ramp):
        if isinstance(layer, QuantizedReLU):
            ramp[index] = nn.Hardtanh(0.0, 1.0)
    with torch.no_grad():
        before = rounded(images())
        torch.testing.assert_close(smooth(images()), ramp(images()))
        assert torch.equal(rounded(images()), before) and not torch.equal(smooth(images()), before), "the network itself goes on rounding"
    x, y = images().requires_grad_(), images().requires_grad_()
    (one,), (other,) = torch.autograd.grad(smooth(x).sum(), x), torch.autograd.grad(ramp(y).sum(), y)
    torch.testing.assert_close(one, other)
    assert not left_out()


def test_a_network_that_does_not_round_has_none() -> None:
    assert without_quantizers(network(None), images()) is None


@pytest.mark.parametrize(
    ("step", "smooth"),
    [
        (straight_round, lambda x: x), (straight_floor, lambda x: x), (straight_ceil, lambda x: x), (straight_trunc, lambda x: x),
        (straight_sign, lambda x: x.clamp(-1, 1)), (lambda x: straight_cast(x, torch.int32), lambda x: x),
    ],
)  # fmt: skip
@pytest.mark.parametrize("gradient", [False, True])
def test_every_step_is_left_out(step, smooth, gradient: bool) -> None:
    class Step(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return step(x)

    x = torch.linspace(-2.3, 2.3, 24).requires_grad_(gradient)
    torch.testing.assert_close(Smooth(Step())(x), smooth(x))
    assert not torch.equal(Step()(x), smooth(x))


@pytest.mark.parametrize("zero", [0, 30])
def test_quantizers_of_an_onnx_graph_keep_their_range(zero: int) -> None:
    scale, point = torch.tensor(0.1), torch.tensor(zero, dtype=torch.int8)
    x = torch.linspace(-20, 20, 97)
    clipped = x.clamp((-128 - zero) * 0.1, (127 - zero) * 0.1)

    class One(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return fake_quantize({}, x, scale, point)

    class Two(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return dequantize({}, quantize({}, x, scale, point), scale, point)

    for form in (One(), Two()):
        torch.testing.assert_close(Smooth(form)(x), clipped)
        assert (form(x) - clipped).abs().max() > 0.04
