"""Forms of an architecture: quantized activations, fewer channels; and the exact sizes of the networks that the literature compresses."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from harness.errors import UsageError
from harness.models.architectures import build, family, head_keys, image_size_of
from harness.models.load import load_twin
from harness.models.mobilenet import scaled
from harness.models.probe import takes
from harness.models.straight import straight_round
from harness.models.variants import QuantizedReLU, fit_to, quantize, shape, split, with_variant


@pytest.mark.parametrize(
    ("arch", "count"),
    [
        ("resnet18x64", 11_173_962),
        ("wrn-28-4", 5_849_050),
        ("wrn-28-10", 36_479_194),
        ("wrn-34-10", 46_160_474),
        ("mobilenetv2-cifar", 2_296_922),
    ],
)
def test_parameters_of_the_papers_networks(arch: str, count: int) -> None:
    with torch.device("meta"):
        network = build(arch, 10)
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize("arch", ["wrn-28-1", "mobilenetv2-cifar", "mobilenetv2-cifar-x0.25", "resnet18x16", "resnet8"])
def test_a_classifier_of_small_images(arch: str) -> None:
    network = build(arch, 7)
    with torch.no_grad():
        assert network(torch.rand(2, 3, 32, 32)).shape == (2, 7)
    assert takes(network, (3, 16, 16))


@pytest.mark.parametrize(
    ("channels", "width", "expected"), [(32, 1.0, 32), (1280, 0.25, 320), (24, 0.25, 8), (16, 0.25, 8), (96, 0.5, 48), (90, 1.0, 90)]
)
def test_width_multiplies_channels_in_eights(channels: int, width: float, expected: int) -> None:
    assert scaled(channels, width) == expected


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_activations_are_clipped_onto_their_levels(bits: int) -> None:
    x = torch.linspace(-1, 2, 4001)
    out = QuantizedReLU(bits)(x)
    levels = torch.unique(out)
    torch.testing.assert_close(levels, torch.arange(2**bits) / (2**bits - 1))
    assert (out[x <= 0] == 0).all() and (out[x >= 1] == 1).all()
    inside = (x >= 0) & (x <= 1)
    assert (out - x)[inside].abs().max() <= 0.5 / (2**bits - 1) + 1e-6


def test_the_gradient_passes_straight_through_the_rounding() -> None:
    x = torch.tensor([-0.5, 0.1, 0.49, 0.9, 1.5], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([1.0, -2.0, 3.0, 0.5, 7.0], dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weight * QuantizedReLU(2)(x)).sum(), x)
    step = 1e-6
    surrogate = lambda v: (weight * v.clamp(0, 1)).sum()  # noqa: E731
    finite = [(surrogate(x + step * e) - surrogate(x - step * e)) / (2 * step) for e in torch.eye(5, dtype=torch.float64)]
    torch.testing.assert_close(gradient, torch.stack(finite).detach(), rtol=1e-6, atol=1e-8)


def test_rounding_is_the_same_with_and_without_a_gradient() -> None:
    x = torch.randn(10_000, generator=torch.Generator().manual_seed(0)) * 50
    x[:4] = torch.tensor([0.5, 1.5, -0.5, 2.5])
    assert torch.equal(straight_round(x), straight_round(x.clone().requires_grad_()).detach())
    assert straight_round(x[:4]).tolist() == [0, 2, 0, 2]  # to even, as ONNX's Round
    assert torch.equal(quantize(x.sigmoid(), 3), (x.sigmoid() * 7).round() / 7)


def test_names_of_forms() -> None:
    assert split("resnet8") == ("resnet8", ())
    assert split("resnet8:filters:a4") == ("resnet8", ("filters", "a4"))
    assert with_variant("resnet8", "a4") == "resnet8:a4"
    assert with_variant("resnet8:filters", "filters") == "resnet8:filters"
    assert family("resnet8:a4") == "zoo" and image_size_of("resnet8:a4") == 32
    assert head_keys("resnet8:a2") == ["linear.weight", "linear.bias"]


@pytest.mark.parametrize("form", ["a0", "a9", "a", "filter", "", "a4b"])
def test_unknown_forms_are_one_clear_line(form: str) -> None:
    with pytest.raises(UsageError, match="unknown variant") as caught:
        build(f"resnet8:{form}", 10)
    assert "\n" not in str(caught.value)


def test_a_network_without_relu_modules_is_refused() -> None:
    with pytest.raises(UsageError, match="no ReLU"):
        shape(nn.Sequential(nn.Linear(2, 2)), ("a4",), "mine:a4")


def test_every_relu_is_replaced() -> None:
    for arch in ("resnet8", "mobilenetv2-cifar-x0.25", "wrn-28-1", "mobilenet_v2"):
        before, after = build(arch, 10), build(f"{arch}:a3", 10)
        count = sum(isinstance(m, nn.ReLU | nn.ReLU6) for m in before.modules())
        assert sum(isinstance(m, QuantizedReLU) for m in after.modules()) == count > 0
        assert not any(isinstance(m, nn.ReLU | nn.ReLU6) for m in after.modules())


def narrower(network: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a CIFAR MobileNet with fewer channels in its head, as if they had been pruned."""
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state["conv2.weight"] = state["conv2.weight"][:24]
    for name in ("weight", "bias", "running_mean", "running_var"):
        state[f"bn2.{name}"] = state[f"bn2.{name}"][:24]
    state["linear.weight"] = state["linear.weight"][:, :24]
    return state


def test_channels_are_as_many_as_the_weights_say(tmp_path) -> None:
    torch.manual_seed(0)
    state = narrower(build("mobilenetv2-cifar-x0.25", 7))
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "mine.safetensors")
    twin = load_twin(str(tmp_path / "mine.safetensors"), arch="mobilenetv2-cifar-x0.25:filters")
    assert twin.classes == 7
    assert twin.module.conv2.out_channels == twin.module.bn2.num_features == twin.module.linear.in_features == 24
    for name, tensor in twin.module.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_depthwise_layers_keep_a_group_per_channel() -> None:
    layer = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 6, 3, groups=2))
    fit_to(layer, {"0.weight": torch.zeros(5, 1, 3, 3), "0.bias": torch.zeros(5), "1.weight": torch.zeros(4, 3, 3, 3)})
    assert (layer[0].groups, layer[0].in_channels, layer[0].out_channels) == (5, 5, 5)
    assert (layer[1].groups, layer[1].in_channels, layer[1].out_channels) == (2, 6, 4)


@pytest.mark.parametrize(
    "damage",
    [
        {"conv2.weight": torch.zeros(24)},
        {"bn2.weight": torch.zeros(24, 1)},
        {"linear.weight": torch.zeros(7, 24, 1)},
        {"bn2.running_mean": torch.zeros(23)},
        {"conv2.weight": torch.zeros(24, 0, 1, 1)},
        {"conv2.weight": torch.zeros(23, 80, 1, 1)},
    ],
)
def test_channels_that_do_not_fit_one_another_are_one_clear_line(damage, tmp_path) -> None:
    state = {**narrower(build("mobilenetv2-cifar-x0.25", 7)), **damage}
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "mine.safetensors")
    with pytest.raises(UsageError) as caught:
        load_twin(str(tmp_path / "mine.safetensors"), arch="mobilenetv2-cifar-x0.25:filters")
    assert "\n" not in str(caught.value)
