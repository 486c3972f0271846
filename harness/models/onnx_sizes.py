"""Arithmetic of an ONNX graph on sizes: `Shape` -> `Gather` -> `Concat` -> `Reshape` and the like.

Sizes, and all else that must be a number and not a tensor (axes, pads, bounds, scales), are NumPy arrays of Python numbers: a batch size
that is symbolic under `torch.export` stays symbolic, and no operator looks at the value of a tensor.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Size = NDArray[np.object_]
Attributes = dict[str, Any]
MAX_SIZES = 256  # numbers in one value: pads of a tensor of any rank; more is data
INTEGERS, FLOATS, BOOL = (6, 7), (1, 11), 9  # numbers of onnx.TensorProto: INT32, INT64; FLOAT, DOUBLE; BOOL


def as_size(value: Any) -> Size:
    """A tensor, a number or a list of numbers (symbolic ones too) as an array of Python numbers of the same shape."""
    if isinstance(value, Tensor):
        return np.array(value.flatten().tolist(), dtype=object).reshape(tuple(value.shape))
    return np.array(value, dtype=object)


def numbers(value: Size | list[Any]) -> list[Any]:
    """The numbers of a size, or of a node's attribute, in one list."""
    return value.reshape(-1).tolist() if isinstance(value, np.ndarray) else list(value)


def as_tensor(value: Size) -> Tensor:
    """A size as a tensor: int64, float32 or bool."""
    listed = value.reshape(-1).tolist()
    if not listed:
        return torch.zeros(value.shape, dtype=torch.int64)
    return torch.tensor(listed).reshape(value.shape)


def slices(rank: int, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> list[slice]:
    """One slice per axis from the inputs (or attributes) of a Slice node."""
    first, last = numbers(starts), numbers(ends)
    chosen = numbers(axes) if axes is not None else list(range(len(first)))
    strides = numbers(steps) if steps is not None else [1] * len(first)
    index = [slice(None)] * rank
    for axis, start, end, step in zip(chosen, first, last, strides, strict=True):
        index[axis] = slice(start, end, step)
    return index


def on_sizes(function: Callable[..., Any], attributes: Attributes, *values: Size | None) -> Size:
    """An operator of the table below, its result a size.

    Raises:
        NotImplementedError: a result of more than `MAX_SIZES` numbers.
    """
    result = np.asarray(function(attributes, *values), dtype=object)
    if result.size > MAX_SIZES:
        raise NotImplementedError(f"{result.size:,} sizes; expected at most {MAX_SIZES}")
    return result


def _single(value: Any) -> Any:
    """Floats are float32 in the file: 10 x 0.7 is 7 there, and 6.9999 in Python's doubles."""
    return float(np.float32(value)) if isinstance(value, float) else value


def each(function: Callable[..., Any], inputs: int = 2) -> Callable[..., Any]:
    """Element by element, broadcast."""
    apply = np.frompyfunc(lambda *values: _single(function(*values)), inputs, 1)
    return lambda attributes, *values: apply(*values)


def pairwise(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """Element by element, over one or more broadcast sizes."""
    ufunc = np.frompyfunc(function, 2, 1)

    def apply(attributes: Attributes, first: Size, *others: Size) -> Any:
        for other in others:
            first = np.asarray(ufunc(first, other), dtype=object)
        return first

    return apply


def _divide(a: Any, b: Any) -> Any:
    """Integers towards zero, as ONNX has it; floats as ever."""
    if isinstance(a, float | torch.SymFloat) or isinstance(b, float | torch.SymFloat):
        return a / b
    return a // b if (a < 0) == (b < 0) else -(-a // b)


_MOD = each(operator.mod)
_FMOD = each(lambda a, b: math.fmod(a, b) if isinstance(a, float) else a - b * _divide(a, b))


def _reduce(function: Any) -> Callable[..., Any]:
    ufunc = np.frompyfunc(function, 2, 1)

    def apply(attributes: Attributes, data: Size, axes: Size | None = None) -> Any:
        given = numbers(axes) if axes is not None else attributes.get("axes")
        if not given and attributes.get("noop_with_empty_axes", 0):
            return data
        kept = data
        for axis in sorted({axis % data.ndim for axis in given or range(data.ndim)}, reverse=True):
            kept = np.asarray(ufunc.reduce(kept, axis=axis, keepdims=bool(attributes.get("keepdims", 1))), dtype=object)
        return kept

    return apply


def _squeeze(attributes: Attributes, data: Size, axes: Size | None = None) -> Any:
    given = numbers(axes) if axes is not None else attributes.get("axes")
    return np.squeeze(data, tuple(given) if given is not None else None)


def _unsqueeze(attributes: Attributes, data: Size, axes: Size | None = None) -> Any:
    return np.expand_dims(data, tuple(numbers(axes) if axes is not None else attributes["axes"]))


def _reshape(attributes: Attributes, data: Size, shape: Size) -> Any:
    wanted = [data.shape[i] if size == 0 and not attributes.get("allowzero", 0) else size for i, size in enumerate(numbers(shape))]
    return data.reshape(wanted)


def _slice(attributes: Attributes, data: Size, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Any:
    if starts is None:
        starts, ends, axes = attributes["starts"], attributes["ends"], attributes.get("axes")
    return data[tuple(slices(data.ndim, starts, ends, axes, steps))]


def _expand(attributes: Attributes, data: Size, shape: Size) -> Any:
    wanted = numbers(shape)
    if math.prod(wanted) > MAX_SIZES:
        raise NotImplementedError(f"an Expand of sizes to {wanted}")
    return np.broadcast_to(data, np.broadcast_shapes(data.shape, wanted))


def _constant_of_shape(attributes: Attributes, shape: Size) -> Any:
    wanted = numbers(shape)
    if not all(isinstance(size, int) for size in wanted) or math.prod(wanted) > MAX_SIZES:
        raise NotImplementedError(f"integers of shape {wanted}; expected at most {MAX_SIZES}, not one per image")
    return np.full(wanted, as_size(attributes["value"]).reshape(-1)[0], dtype=object)


def _cast(attributes: Attributes, data: Size) -> Any:
    to = attributes["to"]
    function = torch.sym_int if to in INTEGERS else torch.sym_float if to in FLOATS else (lambda value: value != 0)
    return np.frompyfunc(function, 1, 1)(data)


def can_be_size(operator_name: str, attributes: Attributes) -> bool:
    """Whether an operator whose inputs are all sizes gives sizes too: it is in the table, and of a type that the table keeps exactly."""
    if operator_name == "Cast":
        return attributes.get("to") in (*INTEGERS, *FLOATS, BOOL)
    if operator_name == "ConstantOfShape":
        return isinstance(value := attributes.get("value"), Tensor) and value.dtype == torch.int64
    return operator_name in SIZE_OPERATORS


# Operators on sizes alone: (attributes, *sizes) -> size.
SIZE_OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": each(operator.add),
    "Sub": each(operator.sub),
    "Mul": each(operator.mul),
    "Div": each(_divide),
    "Mod": lambda attributes, a, b: (_FMOD if attributes.get("fmod", 0) else _MOD)(attributes, a, b),
    "Neg": each(operator.neg, 1),
    "Floor": each(lambda value: torch.sym_float(math.floor(value)), 1),
    "Ceil": each(lambda value: torch.sym_float(math.ceil(value)), 1),
    "Sqrt": each(torch.sym_sqrt, 1),
    "Reciprocal": each(lambda value: 1.0 / value, 1),
    "Min": pairwise(torch.sym_min),
    "Max": pairwise(torch.sym_max),
    "Equal": each(operator.eq),
    "Greater": each(operator.gt),
    "GreaterOrEqual": each(operator.ge),
    "Less": each(operator.lt),
    "LessOrEqual": each(operator.le),
    "And": each(lambda a, b: bool(a) and bool(b)),
    "Or": each(lambda a, b: bool(a) or bool(b)),
    "Not": each(operator.not_, 1),
    "Where": each(lambda condition, a, b: a if condition else b, 3),
    "Cast": _cast,
    "Concat": lambda attributes, *parts: np.concatenate(parts, attributes["axis"]),
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Gather": lambda attributes, data, index: np.take(data, index.astype(np.int64), attributes.get("axis", 0)),
    "Identity": lambda attributes, data: data,
    "ReduceMax": _reduce(torch.sym_max),
    "ReduceMin": _reduce(torch.sym_min),
    "ReduceProd": _reduce(operator.mul),
    "ReduceSum": _reduce(operator.add),
    "Reshape": _reshape,
    "Shape": lambda attributes, data: list(data.shape)[slice(attributes.get("start", 0), attributes.get("end"))],
    "Size": lambda attributes, data: data.size,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Transpose": lambda attributes, data: np.transpose(data, attributes.get("perm")),
    "Unsqueeze": _unsqueeze,
}
