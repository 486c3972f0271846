"""Integer arithmetic of an ONNX graph on sizes: `Shape` -> `Gather` -> `Concat` -> `Reshape` and the like.

Sizes are kept as Python integers (rank 0) and lists of them (rank 1), never as tensors: a batch size that is symbolic under
`torch.export` then stays symbolic, and a size known when the file is read is folded away.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Size = int | list[int]
MAX_SIZES = 64  # integer vectors longer than a tensor's rank can be are data, not sizes


def is_size(value: Any) -> bool:
    """Whether a value is held as a size. A symbolic integer is one too."""
    return isinstance(value, list | int | torch.SymInt) or value is None


def as_size(tensor: Tensor) -> Size | Tensor:
    """An int64 constant as a size; anything else as it is."""
    if tensor.dtype == torch.int64 and tensor.ndim <= 1 and tensor.numel() <= MAX_SIZES:
        size: Size = tensor.tolist()
        return size
    return tensor


def ints(value: Any) -> list[int]:
    """A size or a constant tensor as a list."""
    listed: Any = value.tolist() if isinstance(value, Tensor) else value
    return listed if isinstance(listed, list) else [listed]


def each(function: Callable[..., Any]) -> Callable[..., Any]:
    """Element by element, scalars repeated, over any number of sizes."""

    def apply(attributes: dict[str, Any], *values: Size) -> Any:
        length = max((len(value) for value in values if isinstance(value, list) and len(value) != 1), default=1)
        rows = [value * length if isinstance(value, list) and len(value) == 1 else value for value in values]
        if not any(isinstance(value, list) for value in values):
            return function(*values)
        return [function(*(row[i] if isinstance(row, list) else row for row in rows)) for i in range(length)]

    return apply


def _divide(a: int, b: int) -> int:
    """ONNX divides integers towards zero; sizes are not negative."""
    return a // b


def _gather(attributes: dict[str, Any], data: list[int], index: Size) -> Size:
    return [data[i] for i in index] if isinstance(index, list) else data[index]


def _concat(attributes: dict[str, Any], *parts: list[int]) -> list[int]:
    return [item for part in parts for item in part]


def _slice(
    attributes: dict[str, Any], data: list[int], starts: Size, ends: Size, axes: Size | None = None, steps: Size | None = None
) -> list[int]:
    step = ints(steps)[0] if steps is not None else 1
    return data[slice(ints(starts)[0], ints(ends)[0], step)]


def _unsqueeze(attributes: dict[str, Any], data: Size, axes: Size | None = None) -> Size:
    if isinstance(data, list):
        raise NotImplementedError("a matrix of sizes")
    return [data]


def _squeeze(attributes: dict[str, Any], data: Size, axes: Size | None = None) -> Size:
    return data[0] if isinstance(data, list) else data


def _reshape(attributes: dict[str, Any], data: Size, shape: list[int]) -> Size:
    return ints(data) if len(shape) == 1 else ints(data)[0]


def _prod(attributes: dict[str, Any], data: list[int], axes: Size | None = None) -> Size:
    total = 1
    for item in data:
        total = total * item
    return [total] if attributes.get("keepdims", 1) else total


def _cast(attributes: dict[str, Any], data: Size) -> Size:
    if attributes["to"] not in (6, 7):  # INT32, INT64
        raise NotImplementedError("a size cast to another type than integer")
    return data


# Operators on sizes alone. Where one of these raises NotImplementedError its tensor form is used.
SIZE_OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": each(operator.add),
    "Sub": each(operator.sub),
    "Mul": each(operator.mul),
    "Div": each(_divide),
    "Neg": each(operator.neg),
    "Min": each(min),
    "Max": each(max),
    "Equal": each(operator.eq),
    "Where": each(lambda condition, a, b: a if condition else b),
    "Cast": _cast,
    "Concat": _concat,
    "Gather": _gather,
    "Identity": lambda attributes, data: data,
    "ReduceProd": _prod,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}
