"""QuantizeLinear and DequantizeLinear with the engine's arithmetic forward and a straight-through gradient backward.

Forward: round half to even of x / scale, saturated to the type's range, as ONNX defines and onnxruntime computes. Integers are
carried as float32 (exact up to 2**24) so that gradients can pass. Backward: the derivative of rounding is taken as 1, that of
saturation as it is, 0 outside of the range (Bengio et al., 2013; clipped form, Hubara et al., 2016).

A QuantizeLinear that DequantizeLinear alone reads is one step with it, `fake_quantize`: the same numbers in a third of the passes. One that
Clip alone reads is one step with that. Of a level or three that are left, half a step beyond is much: there the gradient ends where the
range does, as that of the network's own clip(x, 0, 1).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.models.straight import left_out, straight_through

LIMITS = "_limits"  # an attribute of our own: the codes that a Clip behind a QuantizeLinear leaves, (lowest, highest); None: all
ZERO_POINT_TYPES = {0: torch.uint8, 2: torch.uint8, 3: torch.int8, 4: torch.uint16, 5: torch.int16}  # numbers of onnx.TensorProto


def per_axis(parameter: Tensor, x: Tensor, axis: int, block: int = 1) -> Tensor:
    """A scale or zero point, scalar, of shape (channels,), or one per block along the axis, shaped to broadcast against x."""
    if parameter.numel() == 1:
        return parameter.reshape(())
    if parameter.ndim == x.ndim > 1:
        return parameter.repeat_interleave(block, axis)[tuple(map(slice, x.shape))]
    if parameter.ndim != 1:
        raise NotImplementedError(f"a scale of shape {tuple(parameter.shape)} of a tensor of shape {tuple(x.shape)}")
    return parameter.view([-1 if a == axis % x.ndim else 1 for a in range(x.ndim)])


class _FakeQuantize(torch.autograd.Function):
    """A pair of QuantizeLinear and DequantizeLinear. The gradient takes one pass, vectorised, which one over a mask is not (torch 2.14)."""

    @staticmethod
    def forward(context: Any, x: Tensor, scale: Tensor, zero: Tensor, limits: tuple[int, int]) -> Tensor:
        steps = x.div(scale).round_().add_(zero)
        stepped = steps.clamp(*limits)
        context.limits = limits
        context.save_for_backward(steps)
        return stepped.sub_(zero).mul_(scale)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        low, high = context.limits
        passed: Tensor = torch.ops.aten.hardtanh_backward(gradients[0], context.saved_tensors[0], low - 0.5, high + 0.5)  # both included
        return passed, None, None, None


def fake_quantize(attributes: dict[str, Any], x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
    """DequantizeLinear of QuantizeLinear of float x, whose attributes these are, with one scale and zero point: forward their bits."""
    dtype = zero_point.dtype if zero_point is not None else ZERO_POINT_TYPES[attributes.get("output_dtype", 0)]
    limits, axis = torch.iinfo(dtype), attributes.get("axis", 1)
    zero = per_axis(zero_point.float(), x, axis) if zero_point is not None else torch.zeros(())
    if left_out():
        step = per_axis(scale, x, axis)
        return torch.minimum(torch.maximum(x, (limits.min - zero) * step), (limits.max - zero) * step)
    result: Tensor = _FakeQuantize.apply(x, per_axis(scale, x, axis), zero, (limits.min, limits.max))
    return result


def quantize(attributes: dict[str, Any], x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
    """QuantizeLinear, with the Clip of its codes where `LIMITS` has one: float x -> integers, as float32."""
    dtype = zero_point.dtype if zero_point is not None else ZERO_POINT_TYPES[attributes.get("output_dtype", 0)]
    limits, axis = torch.iinfo(dtype), attributes.get("axis", 1)
    bounds = zip(attributes.get(LIMITS, (None, None)), (limits.min, limits.max), strict=True)
    low, high = (limit if bound is None else bound for bound, limit in bounds)
    zero = per_axis(zero_point.float(), x, axis) if zero_point is not None else torch.zeros(())
    scaled = x / per_axis(scale, x, axis)
    if left_out():
        return (scaled + zero).clamp(low, high)
    steps = scaled.detach().round() + zero
    stepped = steps.clamp(low, high)
    if not x.requires_grad:
        return stepped
    # torch's own clamp has no gradient at the bounds themselves (2.14): an image's brightest activations would be lost to an attack.
    exact = scaled.detach() + zero
    inside = steps == stepped if LIMITS not in attributes else (exact >= low) & (exact <= high)
    return straight_through(torch.where(inside, scaled, stepped), stepped)


def dequantize(attributes: dict[str, Any], x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
    """DequantizeLinear: integers (a constant's own type, or float32 from `quantize`) -> float."""
    axis, block = attributes.get("axis", 1), attributes.get("block_size", 0)
    values = x.float()
    if zero_point is not None:
        values = values - per_axis(zero_point.float(), values, axis, block)
    return (values * per_axis(scale, values, axis, block)).to(scale.dtype)


def dynamic_quantize(attributes: dict[str, Any], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """DynamicQuantizeLinear: float x -> codes of eight bits, their scale and zero point, by the range of x and 0.

    Each image has its own, as where an engine is asked for one at a time (`Artefact.one_by_one`): scales and zero points are shaped to
    broadcast against x. All are carried as float32. The gradient passes through the codes alone: the range counts as a constant.
    """
    of_image = list(range(1, x.ndim))
    low, high = x.detach().amin(of_image, keepdim=True).clamp(max=0), x.detach().amax(of_image, keepdim=True).clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = (-low / scale).round()
    scaled = x / scale + zero
    return straight_through(scaled, ((x.detach() / scale).round() + zero).clamp(0, 255)), scale, zero


def matmul_integer(attributes: dict[str, Any], a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None) -> Tensor:
    """MatMulInteger: the product of integers less their zero points (one per row of a, per column of b); carried as float32."""
    a, b = a.float(), b.float()
    if a_zero is not None:
        a = a - (a_zero.float() if a_zero.ndim == a.ndim else per_axis(a_zero.float(), a, -2))
    if b_zero is not None:
        b = b - (b_zero.float() if b_zero.ndim == b.ndim else per_axis(b_zero.float(), b, -1))
    return a @ b
