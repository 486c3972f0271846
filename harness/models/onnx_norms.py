"""ONNX operators that normalise. As `onnx_operators`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.models.onnx_sizes import Attributes
from harness.models.onnx_support import OPSET
from harness.models.straight import finite_gradient


def batch_norm(attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """BatchNormalization: by the stored statistics, or, in training mode, by those of x."""
    training, epsilon = bool(attributes.get("training_mode", 0)), attributes.get("epsilon", 1e-5)
    return F.batch_norm(x, None if training else mean, None if training else variance, scale, bias, training, 0.0, epsilon)


def layer_norm(attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """LayerNormalization over `axis` and all after it; the first output alone."""
    axis = attributes.get("axis", -1) % x.ndim
    normal = F.layer_norm(x, x.shape[axis:], None, None, attributes.get("epsilon", 1e-5)) * scale
    return normal if bias is None else normal + bias


def rms_norm(attributes: Attributes, x: Tensor, scale: Tensor) -> Tensor:
    """RMSNormalization over `axis` and all after it."""
    axis = attributes.get("axis", -1) % x.ndim
    return F.rms_norm(x, x.shape[axis:], None, attributes.get("epsilon", 1e-5)) * scale


def lp_normalization(attributes: Attributes, x: Tensor) -> Tensor:
    """LpNormalization: x / its norm of order `p` along `axis`; 0 where the norm is 0."""
    norm = torch.linalg.vector_norm(x, attributes.get("p", 2), attributes.get("axis", -1), keepdim=True)
    return torch.where(norm == 0, 0, x / torch.where(norm == 0, 1, norm))


def instance_norm(attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """InstanceNormalization."""
    return F.instance_norm(x, None, None, scale, bias, True, 0.0, attributes.get("epsilon", 1e-5))


def mean_variance_norm(attributes: Attributes, x: Tensor) -> Tensor:
    """MeanVarianceNormalization over the given axes."""
    axes = attributes.get("axes", [0, 2, 3])
    centred = x - x.mean(axes, keepdim=True)
    return centred / (finite_gradient(centred.square().mean(axes, keepdim=True)).sqrt() + 1e-9)


def group_norm(attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """GroupNormalization; scale and bias per channel (operator set 21), per group before."""
    groups = attributes["num_groups"]
    if attributes[OPSET] < 21:
        scale, bias = (p.repeat_interleave(x.shape[1] // groups) for p in (scale, bias))
    return F.group_norm(x, groups, scale, bias, attributes.get("epsilon", 1e-5))
