"""A folded network answers as before, and is itself again afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from harness.compression.masks import Masked
from harness.models.architectures import build
from harness.training.folding import folded, pairs

COUNTS = {"resnet18x16": 20, "resnet8": 9, "wrn-28-1": 12, "mobilenetv2-cifar-x0.25": 55, "resnet18x16:a4": 20, "mobilenet_v3_small": 34}


def living(arch: str) -> nn.Module:
    """A network whose batch norms have statistics and parameters of their own."""
    torch.manual_seed(0)
    network = build(arch, 10).eval()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_mean, -0.2, 0.2)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.2, 0.2)
    return network


def answer(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    logits = network(x)
    return logits.detach(), torch.autograd.grad(logits.square().sum(), x)[0]


@pytest.mark.parametrize("arch", COUNTS)
def test_logits_and_gradients_stay_and_everything_is_put_back(arch: str) -> None:
    network, x = living(arch), torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert len(pairs(network)) == COUNTS[arch]
    before = answer(network, x)
    with folded(network):
        inside = answer(network, x)
        assert not torch.equal(inside[0], before[0]), "nothing was folded"
    if ":a" not in arch:  # rounding of activations magnifies that of sums
        for one, other in zip(inside, before, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))
    after = answer(network, x)
    assert all(torch.equal(one, other) for one, other in zip(after, before, strict=True))
    assert not any("forward" in vars(layer) for layer in network.modules())
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_a_masked_weight_is_folded_as_it_is_masked() -> None:
    network, x = living("resnet8"), torch.rand(2, 3, 32, 32)
    for conv, _ in pairs(network):
        nn.utils.parametrize.register_parametrization(conv, "weight", Masked((torch.rand_like(conv.weight) < 0.3).float()))
    expected = network(x)
    assert len(pairs(network)) == COUNTS["resnet8"]
    with folded(network):
        torch.testing.assert_close(network(x), expected, rtol=1e-3, atol=1e-4)


def test_weights_that_changed_are_folded_anew() -> None:
    network, x = living("resnet8"), torch.rand(2, 3, 32, 32)
    for _ in range(2):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(1.1)
        expected = network(x)
        with folded(network):
            torch.testing.assert_close(network(x), expected, rtol=1e-3, atol=1e-4)


class Shared(nn.Module):
    """One convolution twice, and one whose output is used beside its batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.both = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.one, self.two = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.both(self.one(self.twice(self.twice(x))))
        return self.two(y) + y


class Branching(nn.Module):
    """Cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) if x.sum() > 0 else x


@pytest.mark.parametrize("network", [Shared(), Branching(), nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False))])
def test_what_cannot_be_folded_stays(network: nn.Module) -> None:
    network.eval()
    assert pairs(network) == []
    x = torch.rand(2, 3, 4, 4)
    expected = network(x)
    with folded(network):
        assert torch.equal(network(x), expected)


def test_a_fault_inside_puts_it_back_too() -> None:
    network = living("resnet8")
    with pytest.raises(KeyboardInterrupt), folded(network):
        raise KeyboardInterrupt
    assert not any("forward" in vars(layer) for layer in network.modules())
