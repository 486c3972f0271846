"""The table of ONNX operators: name -> function of (attributes, *inputs). Each is differentiable wherever PyTorch's own form is.

Inputs are tensors, but those of `onnx_support.SIZE_INPUTS`, which are sizes (see `onnx_sizes`); what of each operator is implemented stands
in `onnx_support` too. Written for operator sets 7 to 28.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.models import onnx_activations as activations
from harness.models import onnx_indexing as indexing
from harness.models import onnx_norms as norms
from harness.models import onnx_windows as windows
from harness.models.onnx_attention import attention
from harness.models.onnx_quantize import dequantize, dynamic_quantize, matmul_integer, quantize
from harness.models.onnx_sizes import Attributes, Size, as_size, as_tensor, numbers, slices
from harness.models.onnx_support import DTYPES, OUTPUTS
from harness.models.straight import finite_gradient, straight_ceil, straight_floor, straight_round, straight_sign

MAX_ELEMENTS = 2**28  # of a tensor that a few bytes of a file ask for: a gigabyte of float32


def bounded(sizes: list[int]) -> None:
    """Refuse to make a tensor larger than any classifier needs; symbolic sizes pass."""
    if (elements := prod(size for size in sizes if isinstance(size, int))) > MAX_ELEMENTS:
        raise NotImplementedError(f"a tensor of {elements:,} elements; expected at most {MAX_ELEMENTS:,}")


def unary(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """An operator of one tensor and no attributes."""
    return lambda attributes, x: function(x)


def pole(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """As `unary`, of a function whose derivative has a pole."""
    return lambda attributes, x: function(finite_gradient(x))


def binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """An operator of two broadcast tensors and no attributes."""
    return lambda attributes, a, b: function(a, b)


def variadic(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """An operator of one or more broadcast tensors."""
    return lambda attributes, *values: reduce(function, values)


def divide(a: Tensor, b: Tensor) -> Tensor:
    """Div: integers towards zero."""
    if not a.is_floating_point():
        return torch.div(a, b, rounding_mode="trunc")
    return finite_gradient(a) / finite_gradient(b)


def axes_of(attributes: Attributes, given: Size | None) -> list[int] | None:
    """Axes: an attribute in older operator sets, an input in newer ones, absent for all."""
    if given is not None:
        return numbers(given)
    axes: list[int] | None = attributes.get("axes")
    return axes


def reduction(function: Callable[[Tensor, list[int], bool], Tensor]) -> Callable[..., Tensor]:
    """ReduceX: over the given axes, or all; where `noop_with_empty_axes` says so an absent list is an empty one."""

    def apply(attributes: Attributes, x: Tensor, axes: Size | None = None) -> Tensor:
        chosen = axes_of(attributes, axes)
        if not chosen and attributes.get("noop_with_empty_axes", 0):
            return function(x.unsqueeze(-1), [-1], False)
        return function(x, chosen or list(range(x.ndim)), bool(attributes.get("keepdims", 1)))

    return apply


def _prod(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def cumulative_sum(attributes: Attributes, x: Tensor, axis: Size) -> Tensor:
    """CumSum along an axis, from its end if `reverse`, less each element itself if `exclusive`."""
    along = axis.item()
    backwards = bool(attributes.get("reverse", 0))
    total = (x.flip(along) if backwards else x).cumsum(along, dtype=x.dtype)
    if attributes.get("exclusive", 0):
        total = torch.cat([torch.zeros_like(total.narrow(along, 0, 1)), total.narrow(along, 0, x.shape[along] - 1)], along)
    return total.flip(along) if backwards else total


def gemm(attributes: Attributes, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """Gemm: alpha A B + beta C, either factor transposed."""
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    a, b = (a.T if attributes.get("transA", 0) else a), (b if attributes.get("transB", 0) else b.T)
    if alpha == beta == 1 and (c is None or (c.ndim == 1 and c.shape[0] == b.shape[0])):
        return F.linear(a, b, c)
    product: Tensor = alpha * F.linear(a, b)
    return product if c is None else product + beta * c


def clip(attributes: Attributes, x: Tensor, low: Size | Tensor | None = None, high: Size | Tensor | None = None) -> Tensor:
    """Clip; a bound that is absent does not bound. Bounds are attributes before operator set 11; the upper one decides where they cross."""
    least, most = (
        bound if isinstance(bound, Tensor) else bound.item() if bound is not None else attributes.get(key)
        for bound, key in ((low, "min"), (high, "max"))
    )
    if isinstance(least, Tensor) or isinstance(most, Tensor):
        x = x if least is None else torch.maximum(x, torch.as_tensor(least))
        return x if most is None else torch.minimum(x, torch.as_tensor(most))
    return x if least is None and most is None else x.clamp(least, most)


def reshape(attributes: Attributes, x: Tensor, shape: Size) -> Tensor:
    """Reshape: 0 keeps a size, -1 is what is left."""
    wanted = numbers(shape)
    if not attributes.get("allowzero", 0):
        wanted = [x.shape[i] if isinstance(size, int) and size == 0 else size for i, size in enumerate(wanted)]
    return x.reshape(wanted)


def transpose(attributes: Attributes, x: Tensor) -> Tensor:
    """Transpose; without `perm` the axes are reversed."""
    return x.permute(attributes.get("perm", list(range(x.ndim))[::-1]))


def concat(attributes: Attributes, *parts: Tensor) -> Tensor:
    """Concat."""
    return torch.cat(parts, dim=attributes["axis"])


def split(attributes: Attributes, x: Tensor, sizes: Size | None = None) -> Any:
    """Split into the given sizes, else into `num_outputs` equal parts (the last may be smaller)."""
    axis, wanted = attributes.get("axis", 0), sizes if sizes is not None else attributes.get("split")
    if wanted is not None:
        return torch.split(x, numbers(wanted), dim=axis)
    count: Any = attributes.get("num_outputs", attributes.get(OUTPUTS))
    return torch.split(x, -(-x.shape[axis] // count), dim=axis)


def slice_(attributes: Attributes, x: Tensor, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Tensor:
    """Slice, any step but 0. Its numbers are attributes before operator set 10."""
    if starts is None:
        starts, ends, axes = attributes["starts"], attributes["ends"], attributes.get("axes")
    for axis, part in enumerate(slices(x.ndim, starts, ends, axes, steps)):
        if part.step is None or part.step > 0:
            x = x if part == slice(None) else x[(slice(None),) * axis + (part,)]
        else:
            x = x.index_select(axis, torch.tensor(list(range(*part.indices(x.shape[axis]))), dtype=torch.int64))
    return x


def squeeze(attributes: Attributes, x: Tensor, axes: Size | None = None) -> Tensor:
    """Squeeze the given axes, or every axis of size 1."""
    chosen = axes_of(attributes, axes)
    return x.squeeze() if chosen is None else x.squeeze(chosen)


def unsqueeze(attributes: Attributes, x: Tensor, axes: Size | None = None) -> Tensor:
    """Unsqueeze: the axes count in the result."""
    chosen = axes_of(attributes, axes) or []
    for axis in sorted(axis % (x.ndim + len(chosen)) for axis in chosen):
        x = x.unsqueeze(axis)
    return x


def expand(attributes: Attributes, x: Tensor, shape: Size) -> Tensor:
    """Expand: broadcast against `shape`, both ways."""
    wanted = numbers(shape)
    rank = max(x.ndim, len(wanted))
    own, other = [1] * (rank - x.ndim) + list(x.shape), [1] * (rank - len(wanted)) + wanted
    return x.expand([a if isinstance(b, int) and b == 1 else b for a, b in zip(own, other, strict=True)])


def tile(attributes: Attributes, x: Tensor, repeats: Size) -> Tensor:
    """Tile."""
    bounded([x.numel(), *numbers(repeats)])
    return x.repeat(numbers(repeats))


def shape_of(attributes: Attributes, x: Tensor) -> Size:
    """Shape, from `start` to `end`."""
    return as_size(list(x.shape)[slice(attributes.get("start", 0), attributes.get("end"))])


def constant(attributes: Attributes) -> Tensor:
    """Constant: a tensor, a number, or a list of numbers."""
    for name, dtype in (
        ("value_float", torch.float32), ("value_floats", torch.float32), ("value_int", torch.int64), ("value_ints", torch.int64)
    ):  # fmt: skip
        if name in attributes:
            return torch.tensor(attributes[name], dtype=dtype)
    value: Tensor = attributes["value"]
    return value


def constant_of_shape(attributes: Attributes, shape: Size) -> Tensor:
    """ConstantOfShape: the one number, float32 0 by default, everywhere."""
    value: Tensor = attributes.get("value", torch.zeros(1))
    sizes = numbers(shape)
    bounded(sizes)
    return torch.full(sizes, value.item(), dtype=value.dtype)


def cast(attributes: Attributes, x: Tensor) -> Tensor:
    """Cast."""
    return x.to(DTYPES[attributes["to"]])


def range_(attributes: Attributes, start: Size, limit: Size, delta: Size) -> Tensor:
    """Range."""
    first, last, step = (value.item() for value in (start, limit, delta))
    bounded([int((last - first) / step)] if all(isinstance(v, int | float) for v in (first, last, step)) else [])
    return torch.arange(first, last, step, dtype=torch.float32 if isinstance(first, float) else torch.int64)


def where(attributes: Attributes, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Where."""
    return torch.where(condition, a, b)


def power(attributes: Attributes, base: Tensor, exponent: Size | Tensor) -> Tensor:
    """Pow; the result has the base's type."""
    if not isinstance(exponent, Tensor):
        exponent = exponent.item() if exponent.size == 1 and exponent.ndim <= base.ndim else as_tensor(exponent)
    return finite_gradient(base).pow(exponent).to(base.dtype)


def einsum(attributes: Attributes, *values: Tensor) -> Tensor:
    """Einsum."""
    return torch.einsum(attributes["equation"], *values)


OPERATORS: dict[str, Callable[..., Any]] = {
    # windows
    "Conv": windows.conv,
    "ConvInteger": windows.conv_integer,
    "ConvTranspose": windows.conv_transpose,
    "MaxPool": windows.max_pool,
    "AveragePool": windows.average_pool,
    "GlobalAveragePool": windows.global_pool,
    "GlobalMaxPool": windows.global_max_pool,
    "Pad": windows.pad,
    "Resize": windows.resize,
    "Upsample": windows.upsample,
    "DepthToSpace": windows.depth_to_space,
    "SpaceToDepth": windows.space_to_depth,
    "Col2Im": windows.col2im,
    "LRN": windows.local_response,
    "GridSample": windows.grid_sample,
    # matrix products and normalisation
    "Gemm": gemm,
    "MatMul": binary(torch.matmul),
    "Einsum": einsum,
    "Attention": attention,
    "BatchNormalization": norms.batch_norm,
    "LayerNormalization": norms.layer_norm,
    "RMSNormalization": norms.rms_norm,
    "LpNormalization": norms.lp_normalization,
    "InstanceNormalization": norms.instance_norm,
    "MeanVarianceNormalization": norms.mean_variance_norm,
    "GroupNormalization": norms.group_norm,
    # activations
    "Relu": unary(F.relu),
    "LeakyRelu": lambda attributes, x: F.leaky_relu(x, attributes.get("alpha", 0.01)),
    "PRelu": activations.prelu,
    "ThresholdedRelu": activations.thresholded_relu,
    "Celu": activations.celu,
    "Softsign": unary(F.softsign),
    "Elu": lambda attributes, x: F.elu(x, attributes.get("alpha", 1.0)),
    "Selu": activations.selu,
    "Sigmoid": unary(torch.sigmoid),
    "HardSigmoid": activations.hard_sigmoid,
    "HardSwish": unary(F.hardswish),
    "Swish": lambda attributes, x: x * torch.sigmoid(attributes.get("alpha", 1.0) * x),
    "Mish": unary(F.mish),
    "Softplus": unary(F.softplus),
    "Tanh": unary(torch.tanh),
    "Erf": unary(torch.erf),
    "Gelu": activations.gelu,
    "Softmax": activations.softmax(torch.softmax),
    "LogSoftmax": activations.softmax(torch.log_softmax),
    "Shrink": activations.shrink,
    "Hardmax": activations.hardmax,
    "Clip": clip,
    "Dropout": lambda attributes, x, ratio=None, training=None: x,
    # arithmetic
    "Add": binary(torch.add),
    "Sub": binary(torch.sub),
    "Mul": binary(torch.mul),
    "Div": binary(divide),
    "Pow": power,
    "Sqrt": pole(torch.sqrt),
    "Reciprocal": pole(torch.reciprocal),
    "Neg": unary(torch.neg),
    "Abs": unary(torch.abs),
    "Exp": unary(torch.exp),
    "Log": pole(torch.log),
    "Sin": unary(torch.sin),
    "Cos": unary(torch.cos),
    "Tan": unary(torch.tan),
    "Asin": pole(torch.asin),
    "Acos": pole(torch.acos),
    "Atan": unary(torch.atan),
    "Sinh": unary(torch.sinh),
    "Cosh": unary(torch.cosh),
    "Asinh": unary(torch.asinh),
    "Acosh": pole(torch.acosh),
    "Atanh": pole(torch.atanh),
    "Mod": lambda attributes, a, b: (torch.fmod if attributes.get("fmod", 0) else torch.remainder)(a, b),
    "Floor": unary(straight_floor),
    "Ceil": unary(straight_ceil),
    "Round": unary(straight_round),
    "Sign": unary(straight_sign),
    "Min": variadic(torch.minimum),
    "Max": variadic(torch.maximum),
    "Sum": variadic(torch.add),
    "Mean": lambda attributes, *values: sum(values[1:], start=values[0]) / len(values),
    "Equal": binary(torch.eq),
    "Greater": binary(torch.gt),
    "GreaterOrEqual": binary(torch.ge),
    "Less": binary(torch.lt),
    "LessOrEqual": binary(torch.le),
    "And": binary(torch.logical_and),
    "Or": binary(torch.logical_or),
    "Xor": binary(torch.logical_xor),
    "Not": unary(torch.logical_not),
    "IsNaN": unary(torch.isnan),
    "IsInf": unary(torch.isinf),
    "Where": where,
    # reductions
    "ReduceMean": reduction(lambda x, axes, keep: x.mean(axes, keep)),
    "ReduceSum": reduction(lambda x, axes, keep: x.sum(axes, keep)),
    "ReduceMax": reduction(lambda x, axes, keep: x.amax(axes, keep)),
    "ReduceMin": reduction(lambda x, axes, keep: x.amin(axes, keep)),
    "ReduceL1": reduction(lambda x, axes, keep: x.abs().sum(axes, keep)),
    "ReduceL2": reduction(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
    "ReduceSumSquare": reduction(lambda x, axes, keep: x.square().sum(axes, keep)),
    "ReduceLogSum": reduction(lambda x, axes, keep: finite_gradient(x.sum(axes, keep)).log()),
    "ReduceLogSumExp": reduction(lambda x, axes, keep: x.logsumexp(axes, keep)),
    "ReduceProd": reduction(_prod),
    "CumSum": cumulative_sum,
    # shape
    "Shape": shape_of,
    "Size": lambda attributes, x: as_size(x.numel()),
    "Flatten": windows.flatten,
    "Reshape": reshape,
    "Transpose": transpose,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Expand": expand,
    "Tile": tile,
    "Range": range_,
    # parts by their places
    "Gather": indexing.gather,
    "GatherElements": indexing.gather_elements,
    "GatherND": indexing.gather_nd,
    "ScatterElements": indexing.scatter_elements,
    "ScatterND": indexing.scatter_nd,
    "TopK": indexing.top_k,
    "ArgMax": indexing.arg_max,
    "ArgMin": indexing.arg_min,
    "OneHot": indexing.one_hot,
    "Trilu": indexing.triangle,
    "EyeLike": indexing.eye_like,
    # constants and types
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "Cast": cast,
    "CastLike": lambda attributes, x, like: x.to(like.dtype),
    "Identity": lambda attributes, x: x,
    # quantization
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLinear": dynamic_quantize,
    "MatMulInteger": matmul_integer,
}
