"""ONNX operators that work on each number by itself, or on those of one axis. As `onnx_operators`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.models.onnx_sizes import Attributes
from harness.models.onnx_support import OPSET


def hard_sigmoid(attributes: Attributes, x: Tensor) -> Tensor:
    """HardSigmoid: max(0, min(1, alpha x + beta))."""
    line: Tensor = attributes.get("alpha", 0.2) * x + attributes.get("beta", 0.5)
    return line.clamp(0, 1)


def gelu(attributes: Attributes, x: Tensor) -> Tensor:
    """Gelu, exact or by tanh."""
    return F.gelu(x, approximate=attributes.get("approximate", "none"))


def selu(attributes: Attributes, x: Tensor) -> Tensor:
    """Selu."""
    alpha, gamma = attributes.get("alpha", 1.6732632423543772), attributes.get("gamma", 1.0507009873554805)
    return torch.mul(F.elu(x, alpha), gamma)


def softmax(function: Callable[[Tensor, int], Tensor]) -> Callable[..., Tensor]:
    """Softmax and LogSoftmax. Before operator set 13 the axes from `axis` on are one (a matrix row)."""

    def apply(attributes: Attributes, x: Tensor) -> Tensor:
        if attributes[OPSET] >= 13:
            return function(x, attributes.get("axis", -1))
        axis = attributes.get("axis", 1) % x.ndim
        return function(x.flatten(axis), -1).view(x.shape)

    return apply


def prelu(attributes: Attributes, x: Tensor, slope: Tensor) -> Tensor:
    """PRelu."""
    return torch.where(x < 0, x * slope, x)


def celu(attributes: Attributes, x: Tensor) -> Tensor:
    """Celu."""
    return F.celu(x, attributes.get("alpha", 1.0))


def thresholded_relu(attributes: Attributes, x: Tensor) -> Tensor:
    """ThresholdedRelu."""
    return torch.where(x > attributes.get("alpha", 1.0), x, 0)


def shrink(attributes: Attributes, x: Tensor) -> Tensor:
    """Shrink: towards 0 by `bias` where x is beyond `lambd`, 0 between."""
    bias, border = attributes.get("bias", 0.0), attributes.get("lambd", 0.5)
    return torch.where(x < -border, x + bias, torch.where(x > border, x - bias, 0))


def hardmax(attributes: Attributes, x: Tensor) -> Tensor:
    """Hardmax along `axis` (from operator set 13 on): 1 at the first of the largest, 0 elsewhere."""
    axis = attributes.get("axis", -1)
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1.0)
