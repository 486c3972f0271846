"""Weights on a grid: where the levels are, and straight-through gradients against finite differences of what they stand for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from harness.compression.job import Job
from harness.compression.masks import irregular, layers_with_weights
from harness.compression.methods.hydra import Scored, initial_scores
from harness.compression.methods.lowbit import DoReFaWeight, SymmetricWeight, lowbit, ptq_int8, qat_int8
from harness.models import grids
from harness.models.architectures import build
from harness.models.variants import QuantizedReLU


def weights(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("bits", range(2, 9))
def test_dorefa_levels(bits: int) -> None:
    found = DoReFaWeight(bits)(weights())
    codes = (found + 1) / 2 * (2**bits - 1)
    torch.testing.assert_close(codes, codes.round(), atol=1e-4, rtol=0)
    assert found.abs().max() == 1 and not (found == 0).any(), "the DoReFa grid has no zero"
    squashed = weights().tanh() / weights().tanh().abs().max()
    assert (found - squashed).abs().max() <= 1 / (2**bits - 1) + 1e-6


def test_one_bit_is_the_sign_times_the_mean() -> None:
    weight = weights()
    weight[0, 0, 0, 0] = 0
    found = DoReFaWeight(1)(weight)
    torch.testing.assert_close(found, torch.where(weight >= 0, 1.0, -1.0) * weight.abs().mean())
    assert len(found.unique()) == 2


def test_symmetric_levels_are_int8_codes_of_each_output() -> None:
    weight = weights()
    weight[2] = 0
    found = SymmetricWeight()(weight)
    codes, scale = grids.int8(found)
    torch.testing.assert_close(scale, weight.abs().amax((1, 2, 3)) / 127)
    assert codes[[0, 1, 3, 4]].abs().amax((1, 2, 3)).tolist() == [127] * 4 and (found[2] == 0).all()
    assert (found - weight).abs().max() <= scale.max() / 2 + 1e-7
    assert ((weight == 0) <= (found == 0)).all(), "a zero must stay one: sparsity survives"


def fixed_scale(weight: Tensor) -> Tensor:
    return weight


SURROGATES: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]] = {
    "one bit": (DoReFaWeight(1), fixed_scale),
    "two bits": (DoReFaWeight(2), lambda w: w.tanh() / w.tanh().abs().max()),
    "eight bits": (DoReFaWeight(8), lambda w: w.tanh() / w.tanh().abs().max()),
    "INT8": (SymmetricWeight(), fixed_scale),
    "activations": (QuantizedReLU(3), lambda w: w.clamp(0, 1)),
}


def finite_differences(function: Callable[[Tensor], Tensor], at: Tensor, step: float = 1e-6) -> Tensor:
    """The gradient of a scalar function by central differences."""
    gradient = torch.zeros_like(at)
    for i in range(at.numel()):
        move = torch.zeros(at.numel(), dtype=at.dtype)
        move[i] = step
        move = move.view_as(at)
        gradient.view(-1)[i] = (function(at + move) - function(at - move)) / (2 * step)
    return gradient


@pytest.mark.parametrize("case", SURROGATES)
def test_straight_through_gradients_are_those_of_the_surrogate(case: str) -> None:
    """Backward, the rounding is left out: the gradient of <g, Q(w)> is the surrogate's, by central differences in float64."""
    quantizer, surrogate = SURROGATES[case]
    weight, direction = weights(torch.float64)[:2, :2], weights(torch.float64)[2:4, 2:]
    (gradient,) = torch.autograd.grad((direction * quantizer(weight.requires_grad_())).sum(), weight)
    expected = finite_differences(lambda w: (direction * surrogate(w)).sum(), weight.detach())
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7)


def test_scores_take_the_gradient_of_the_unmasked_product() -> None:
    """HYDRA: every score, kept or not, gets d/ds of <g, w |s|>; the weights, frozen in the training, that of the masked product."""
    weight, direction = weights(torch.float64)[:2, :2], weights(torch.float64)[2:4, 2:]
    scored = Scored(weight, irregular, 0.75)
    (gradient,) = torch.autograd.grad((direction * scored(weight)).sum(), scored.scores)
    expected = finite_differences(lambda s: (direction * weight * s.abs()).sum(), scored.scores.detach())
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-8)
    assert int(scored.mask().sum()) == 9 == int((scored(weight) != 0).sum())
    torch.testing.assert_close(scored(weight), weight * scored.mask())


def test_initial_scores_are_scaled_weights() -> None:
    weight = weights()
    scores = initial_scores(weight)
    torch.testing.assert_close(scores, (6 / 36) ** 0.5 * weight / weight.abs().max())
    assert torch.equal(irregular(scores, 0.8), irregular(weight, 0.8))


def on_int8(layer: nn.Module) -> bool:
    return grids.int8(layer.weight.detach()) is not None


def level_count(layer: nn.Module) -> int:
    """How many distinct weights; 0 for a layer in float."""
    levels = grids.levels(layer.weight.detach())
    return 0 if levels is None else len(levels)


@pytest.mark.parametrize(
    ("rate", "middle", "arch"), [("w1a1", 2, "resnet8:a1"), ("w4a32", 16, "resnet8"), ("w32a4", 0, "resnet8:a4"), ("w32a32", 0, "resnet8")]
)
def test_lowbit_puts_every_layer_on_its_grid(rate: str, middle: int, arch: str, make_job: Callable[..., Job]) -> None:
    job = make_job("lowbit", rate, epochs=1)
    layers = list(layers_with_weights(lowbit(job)))
    assert job.arch == arch
    if not middle:
        assert not any(on_int8(layer) or level_count(layer) for layer in layers)
        return
    assert on_int8(layers[0]) and on_int8(layers[-1])
    assert {level_count(layer) for layer in layers[1:-1]} == {middle}
    assert job.notes["weight_bits"] == {"first": "INT8", "middle": int(rate[1]), "last": "INT8"}


@pytest.mark.parametrize("method", [ptq_int8, qat_int8])
def test_int8_methods_end_on_the_int8_grid(method: Callable[[Job], nn.Module], make_job: Callable[..., Job]) -> None:
    job = make_job("qat-int8", epochs=1)
    before = [layer.weight.detach().clone() for layer in layers_with_weights(job.network)]
    network = method(job)
    assert all(on_int8(layer) for layer in layers_with_weights(network))
    assert not any(module._forward_pre_hooks for module in network.modules()), "the rounding of activations was left on"
    if method is ptq_int8:
        for old, layer in zip(before, layers_with_weights(network), strict=True):
            assert (layer.weight - old).abs().max() <= old.abs().max() / 127 / 2 * 1.001


def test_a_network_of_one_layer() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    assert on_int8(ptq_int8(type("J", (), {"network": network})())[1])


def test_quantizing_a_quantized_network_again_is_refused(make_job: Callable[..., Job]) -> None:
    from harness.errors import UsageError

    with pytest.raises(UsageError, match="no ReLU"):
        lowbit(make_job("lowbit", "w4a4", network=build("resnet8:a4", 10)))
