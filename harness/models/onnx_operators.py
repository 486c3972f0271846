"""The table of ONNX operators: name -> function of (attributes, *inputs). Each is differentiable wherever PyTorch's own form is.

Inputs are tensors, or sizes (see `onnx_sizes`) where an operator takes axes, shapes or indices. Written for operator sets 11 to 26.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.models import onnx_windows as windows
from harness.models.onnx_quantize import dequantize, quantize
from harness.models.onnx_sizes import Size, as_size, ints

Attributes = dict[str, Any]
OPSET = "_opset"  # attribute that carries the operator set's version

# Numbers of onnx.TensorProto.
DTYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
}


MAX_ELEMENTS = 2**28  # of a tensor that a few bytes of a file ask for: a gigabyte of float32


def bounded(sizes: list[int]) -> None:
    """Refuse to make a tensor larger than any classifier needs; symbolic sizes pass."""
    if (elements := prod(size for size in sizes if isinstance(size, int))) > MAX_ELEMENTS:
        raise NotImplementedError(f"a tensor of {elements:,} elements; expected at most {MAX_ELEMENTS:,}")


def tensor(value: Any, dtype: torch.dtype | None = None) -> Tensor:
    """A size as a tensor; a tensor as it is."""
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=dtype)


def unary(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """An operator of one tensor and no attributes."""
    return lambda attributes, x: function(tensor(x))


def binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """An operator of two broadcast tensors and no attributes."""
    return lambda attributes, a, b: function(tensor(a), tensor(b))


def variadic(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """An operator of one or more broadcast tensors."""
    return lambda attributes, *values: reduce(function, map(tensor, values))


def divide(a: Tensor, b: Tensor) -> Tensor:
    """Div: integers towards zero."""
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def axes_of(attributes: Attributes, given: Any) -> list[int] | None:
    """Axes: an attribute in older operator sets, an input in newer ones, absent for all."""
    if given is not None:
        return ints(given)
    axes: list[int] | None = attributes.get("axes")
    return axes


def reduction(function: Callable[[Tensor, list[int], bool], Tensor]) -> Callable[..., Tensor]:
    """ReduceX: over the given axes, or all, or none where `noop_with_empty_axes` says so."""

    def apply(attributes: Attributes, x: Any, axes: Any = None) -> Tensor:
        data, chosen = tensor(x), axes_of(attributes, axes)
        if not chosen and attributes.get("noop_with_empty_axes", 0):
            return data
        return function(data, chosen or list(range(data.ndim)), bool(attributes.get("keepdims", 1)))

    return apply


def _prod(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def batch_norm(attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """BatchNormalization, inference form."""
    if attributes.get("training_mode", 0):
        raise NotImplementedError("BatchNormalization in training mode")
    return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, attributes.get("epsilon", 1e-5))


def layer_norm(attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """LayerNormalization over `axis` and all after it; the first output alone."""
    axis = attributes.get("axis", -1) % x.ndim
    normal = F.layer_norm(x, x.shape[axis:], None, None, attributes.get("epsilon", 1e-5)) * scale
    return normal if bias is None else normal + bias


def instance_norm(attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """InstanceNormalization."""
    return F.instance_norm(x, None, None, scale, bias, True, 0.0, attributes.get("epsilon", 1e-5))


def group_norm(attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """GroupNormalization; scale and bias per channel (operator set 21), per group before."""
    groups = attributes["num_groups"]
    if attributes[OPSET] < 21:
        scale, bias = (p.repeat_interleave(x.shape[1] // groups) for p in (scale, bias))
    return F.group_norm(x, groups, scale, bias, attributes.get("epsilon", 1e-5))


def gemm(attributes: Attributes, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """Gemm: alpha A B + beta C, either factor transposed."""
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    a, b = (a.T if attributes.get("transA", 0) else a), (b if attributes.get("transB", 0) else b.T)
    if alpha == beta == 1 and (c is None or (c.ndim == 1 and c.shape[0] == b.shape[0])):
        return F.linear(a, b, c)
    product: Tensor = alpha * F.linear(a, b)
    return product if c is None else product + beta * c


def clip(attributes: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Clip; a bound that is absent does not bound."""
    lowest = float(low) if low is not None else None
    highest = float(high) if high is not None else None
    return x if lowest is None and highest is None else x.clamp(lowest, highest)


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


def reshape(attributes: Attributes, x: Any, shape: Any) -> Tensor:
    """Reshape: 0 keeps a size, -1 is what is left."""
    data, wanted = tensor(x), ints(shape)
    if not attributes.get("allowzero", 0):
        wanted = [data.shape[i] if isinstance(size, int) and size == 0 else size for i, size in enumerate(wanted)]
    return data.reshape(wanted)


def transpose(attributes: Attributes, x: Tensor) -> Tensor:
    """Transpose; without `perm` the axes are reversed."""
    return x.permute(attributes.get("perm", list(range(x.ndim))[::-1]))


def concat(attributes: Attributes, *parts: Any) -> Tensor:
    """Concat."""
    return torch.cat([tensor(part) for part in parts], dim=attributes["axis"])


def split(attributes: Attributes, x: Tensor, sizes: Any = None) -> Any:
    """Split into the given sizes, else into `num_outputs` equal parts (the last may be smaller)."""
    axis, wanted = attributes.get("axis", 0), sizes if sizes is not None else attributes.get("split")
    if wanted is not None:
        return torch.split(x, ints(wanted), dim=axis)
    return torch.split(x, -(-x.shape[axis] // attributes["num_outputs"]), dim=axis)


def slice_(attributes: Attributes, x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Tensor:
    """Slice, any step but 0."""
    data, first, last = tensor(x), ints(starts), ints(ends)
    chosen = ints(axes) if axes is not None else list(range(len(first)))
    strides = ints(steps) if steps is not None else [1] * len(first)
    for axis, start, end, step in zip(chosen, first, last, strides, strict=True):
        if step > 0:
            index: list[Any] = [slice(None)] * data.ndim
            index[axis] = slice(start, end, step)
            data = data[tuple(index)]
        else:
            backwards = range(*slice(start, end, step).indices(data.shape[axis]))
            data = data.index_select(axis, torch.tensor(list(backwards), dtype=torch.int64))
    return data


def gather(attributes: Attributes, x: Any, index: Any) -> Tensor:
    """Gather: rows of an axis; the index's shape takes the axis's place."""
    data, rows = tensor(x), tensor(index)
    axis = attributes.get("axis", 0) % data.ndim
    if isinstance(index, int):
        return data.select(axis, index)
    rows = torch.where(rows < 0, rows + data.shape[axis], rows)
    return data.index_select(axis, rows.flatten()).reshape(*data.shape[:axis], *rows.shape, *data.shape[axis + 1 :])


def scatter_nd(attributes: Attributes, x: Any, index: Tensor, updates: Any) -> Tensor:
    """ScatterND: a copy of x with the rows at `index` replaced."""
    if attributes.get("reduction", "none") != "none":
        raise NotImplementedError("ScatterND with a reduction")
    return tensor(x).index_put(tuple(tensor(index).unbind(-1)), tensor(updates))


def squeeze(attributes: Attributes, x: Any, axes: Any = None) -> Tensor:
    """Squeeze the given axes, or every axis of size 1."""
    chosen = axes_of(attributes, axes)
    return tensor(x).squeeze() if chosen is None else tensor(x).squeeze(chosen)


def unsqueeze(attributes: Attributes, x: Any, axes: Any = None) -> Tensor:
    """Unsqueeze: the axes count in the result."""
    data, chosen = tensor(x), axes_of(attributes, axes) or []
    for axis in sorted(axis % (data.ndim + len(chosen)) for axis in chosen):
        data = data.unsqueeze(axis)
    return data


def expand(attributes: Attributes, x: Any, shape: Any) -> Tensor:
    """Expand: broadcast against `shape`, both ways."""
    data, wanted = tensor(x), ints(shape)
    rank = max(data.ndim, len(wanted))
    own, other = [1] * (rank - data.ndim) + list(data.shape), [1] * (rank - len(wanted)) + wanted
    return data.expand([a if isinstance(b, int) and b == 1 else b for a, b in zip(own, other, strict=True)])


def tile(attributes: Attributes, x: Tensor, repeats: Any) -> Tensor:
    """Tile."""
    bounded([x.numel(), *ints(repeats)])
    return x.repeat(ints(repeats))


def shape_of(attributes: Attributes, x: Any) -> Size:
    """Shape, from `start` to `end`."""
    sizes = [len(x)] if isinstance(x, list) else list(x.shape) if isinstance(x, Tensor) else []
    return sizes[slice(attributes.get("start", 0), attributes.get("end"))]


def constant(attributes: Attributes) -> Any:
    """Constant: a tensor, a number, or a list of numbers."""
    for name, dtype in (("value_float", torch.float32), ("value_floats", torch.float32), ("value_int", None), ("value_ints", None)):
        if name in attributes:
            return as_size(torch.tensor(attributes[name], dtype=dtype))
    if "value" not in attributes:
        raise NotImplementedError(f"Constant with {', '.join(set(attributes) - {OPSET})}")
    return as_size(attributes["value"])


def constant_of_shape(attributes: Attributes, shape: Any) -> Any:
    """ConstantOfShape: the one number, float32 0 by default, everywhere."""
    value: Tensor = attributes.get("value", torch.zeros(1))
    sizes = ints(shape)
    bounded(sizes)
    if value.dtype == torch.int64 and len(sizes) <= 1 and all(isinstance(size, int) for size in sizes):
        return [int(value)] * sizes[0] if sizes else int(value)
    return torch.full(sizes, value.item(), dtype=value.dtype)


def cast(attributes: Attributes, x: Any) -> Tensor:
    """Cast."""
    if attributes["to"] not in DTYPES:
        raise NotImplementedError(f"Cast to type {attributes['to']}")
    return tensor(x).to(DTYPES[attributes["to"]])


def range_(attributes: Attributes, start: Any, limit: Any, delta: Any) -> Any:
    """Range."""
    first, last, step = (v.item() if isinstance(v, Tensor) else v for v in (start, limit, delta))
    bounded([int((last - first) / step)] if all(isinstance(v, int | float) for v in (first, last, step)) else [])
    return torch.arange(first, last, step, dtype=start.dtype if isinstance(start, Tensor) else torch.int64)


def where(attributes: Attributes, condition: Any, a: Any, b: Any) -> Tensor:
    """Where."""
    return torch.where(tensor(condition, torch.bool), tensor(a), tensor(b))


def power(attributes: Attributes, base: Any, exponent: Any) -> Tensor:
    """Pow; the result has the base's type."""
    data = tensor(base)
    return data.pow(tensor(exponent)).to(data.dtype)


def einsum(attributes: Attributes, *values: Tensor) -> Tensor:
    """Einsum."""
    return torch.einsum(attributes["equation"], *values)


OPERATORS: dict[str, Callable[..., Any]] = {
    # windows
    "Conv": windows.conv,
    "MaxPool": windows.max_pool,
    "AveragePool": windows.average_pool,
    "GlobalAveragePool": windows.global_pool,
    "GlobalMaxPool": windows.global_max_pool,
    "Pad": windows.pad,
    "Resize": windows.resize,
    "DepthToSpace": windows.depth_to_space,
    "SpaceToDepth": windows.space_to_depth,
    "LRN": windows.local_response,
    # matrix products and normalisation
    "Gemm": gemm,
    "MatMul": binary(torch.matmul),
    "Einsum": einsum,
    "BatchNormalization": batch_norm,
    "LayerNormalization": layer_norm,
    "InstanceNormalization": instance_norm,
    "GroupNormalization": group_norm,
    # activations
    "Relu": unary(F.relu),
    "LeakyRelu": lambda attributes, x: F.leaky_relu(x, attributes.get("alpha", 0.01)),
    "PRelu": binary(lambda x, slope: torch.where(x < 0, x * slope, x)),
    "Elu": lambda attributes, x: F.elu(x, attributes.get("alpha", 1.0)),
    "Selu": selu,
    "Sigmoid": unary(torch.sigmoid),
    "HardSigmoid": hard_sigmoid,
    "HardSwish": unary(F.hardswish),
    "Swish": lambda attributes, x: x * torch.sigmoid(attributes.get("alpha", 1.0) * x),
    "Mish": unary(F.mish),
    "Softplus": unary(F.softplus),
    "Tanh": unary(torch.tanh),
    "Erf": unary(torch.erf),
    "Gelu": gelu,
    "Softmax": softmax(torch.softmax),
    "LogSoftmax": softmax(torch.log_softmax),
    "Clip": clip,
    "Dropout": lambda attributes, x, ratio=None, training=None: x,
    # arithmetic
    "Add": binary(torch.add),
    "Sub": binary(torch.sub),
    "Mul": binary(torch.mul),
    "Div": binary(divide),
    "Pow": power,
    "Sqrt": unary(torch.sqrt),
    "Reciprocal": unary(torch.reciprocal),
    "Neg": unary(torch.neg),
    "Abs": unary(torch.abs),
    "Exp": unary(torch.exp),
    "Log": unary(torch.log),
    "Floor": unary(torch.floor),
    "Ceil": unary(torch.ceil),
    "Round": unary(torch.round),
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
    "Not": unary(torch.logical_not),
    "Where": where,
    # reductions
    "ReduceMean": reduction(lambda x, axes, keep: x.mean(axes, keep)),
    "ReduceSum": reduction(lambda x, axes, keep: x.sum(axes, keep)),
    "ReduceMax": reduction(lambda x, axes, keep: x.amax(axes, keep)),
    "ReduceMin": reduction(lambda x, axes, keep: x.amin(axes, keep)),
    "ReduceL2": reduction(lambda x, axes, keep: x.square().sum(axes, keep).sqrt()),
    "ReduceProd": reduction(_prod),
    # shape
    "Shape": shape_of,
    "Flatten": windows.flatten,
    "Reshape": reshape,
    "Transpose": transpose,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
    "ScatterND": scatter_nd,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Expand": expand,
    "Tile": tile,
    "Range": range_,
    # constants and types
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "Cast": cast,
    "Identity": lambda attributes, x: x,
    # quantization
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
}
