"""The architectures that this project trains. The networks that come with it: `harness.models.shipped`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from harness.models import mobilenet, resnet, wide_resnet

if TYPE_CHECKING:
    from torch import nn

ARCHITECTURES: dict[str, Callable[[int], nn.Module]] = {
    "resnet8": resnet.resnet8,
    **{f"resnet18x{width}": partial(resnet.cifar_resnet18, width) for width in (16, 24, 32, 64)},
    **{f"wrn-{depth}-{widen}": partial(wide_resnet.WideResNet, depth, widen) for depth, widen in ((28, 1), (28, 4), (28, 10), (34, 10))},
    "mobilenetv2-cifar": partial(mobilenet.CifarMobileNetV2, 1.0),
    **{f"mobilenetv2-cifar-x{width}": partial(mobilenet.CifarMobileNetV2, width) for width in (0.25, 0.5)},
}
