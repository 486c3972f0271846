"""The architectures this project trains and the networks it ships. One table each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from harness.models import resnet

ARCHITECTURES: dict[str, Callable[[int], nn.Module]] = {
    "resnet8": resnet.resnet8,
    **{f"resnet18x{width}": partial(resnet.cifar_resnet18, width) for width in (16, 24, 32, 64)},
}
