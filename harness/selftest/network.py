"""The network of the self-test: about 6,000 weights, with all that a deployment can get wrong in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from export.identity import module_sha256
from harness.models import probe
from harness.models.load import Twin
from harness.models.resnet import Normalize
from harness.selftest.pictures import CLASSES, SIDE
from harness.stages.subject import Subject

WEIGHTS = Path(__file__).with_name("network.safetensors")
SHAPE = (3, SIDE, SIDE)
MEAN, STD = (0.60, 0.40, 0.30), (0.22, 0.18, 0.12)


class Network(nn.Module):
    """Standardisation, a stem, a depthwise block with a shortcut, a strided convolution, one linear layer.

    Args:
        width: channels of the stem.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.normalize = Normalize(MEAN, STD)
        self.stem, self.bn1 = nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width)
        self.depthwise, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False), nn.BatchNorm2d(width)
        self.pointwise, self.bn3 = nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv, self.bn4 = nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False), nn.BatchNorm2d(2 * width)
        self.linear = nn.Linear(2 * width * (SIDE // 8) ** 2, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        """Images (n, 3, h, w) in [0, 1] -> what the linear layer takes, (n, features)."""
        x = self.bn1(self.stem(self.normalize(x))).relu()
        y = self.bn2(self.depthwise(x)).relu()
        x = (self.bn3(self.pointwise(y)) + x).relu()
        x = nn.functional.avg_pool2d(self.bn4(self.conv(x)).relu(), 2)
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, 3, h, w) in [0, 1] -> logits (n, classes)."""
        logits: Tensor = self.linear(self.features(x))
        return logits


def network(weights: str = "") -> Network:
    """The trained network; with `weights`, such as `epoch-2`, another state of its training that is kept beside it."""
    made = Network()
    path = WEIGHTS.with_name(f"network-{weights}.safetensors") if weights else WEIGHTS
    made.load_state_dict(load_file(path))
    return made.eval().requires_grad_(False)


def as_twin(module: nn.Module, name: str = "selftest") -> Twin:
    """A module as the twin of a run, checked as one that was loaded from a file.

    Raises:
        UsageError: it is no classifier, see `harness.models.probe`.
    """
    module = module.eval()
    classes = probe.probe(module, SHAPE, name)
    total, nonzero = probe.parameters(module)
    with torch.no_grad():
        macs = probe.macs(module, SHAPE)
    return Twin(name, "safetensors", None, module, module_sha256(module), SHAPE, classes, total, nonzero, macs)


def with_network(subject: Subject, module: nn.Module) -> Subject:
    """The same run about another network. Raises as `as_twin`."""
    return replace(subject, twin=as_twin(module))


class Changed(nn.Module):
    """The trained network with another way from images to logits."""

    def __init__(self, logits: Callable[[Network, Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.logits = network(), logits

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, 3, h, w) in [0, 1] -> logits (n, classes)."""
        return self.logits(self.inner, x)


def with_logits(subject: Subject, logits: Callable[[Network, Tensor], Tensor]) -> Subject:
    """The same run about the network with other logits. Raises as `as_twin`."""
    return with_network(subject, Changed(logits))
