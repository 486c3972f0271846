"""ONNX operators that take or put parts of a tensor by their places. As `onnx_operators`."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.models.onnx_sizes import Attributes, Size, numbers
from harness.models.onnx_support import DTYPES

REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}  # of ScatterElements -> PyTorch's names


def gather(attributes: Attributes, x: Tensor, index: Size | Tensor) -> Tensor:
    """Gather: rows of an axis; the index's shape takes the axis's place."""
    axis = attributes.get("axis", 0) % x.ndim
    if not isinstance(index, Tensor):
        if index.ndim == 0:
            return x.select(axis, index.item())
        index = torch.tensor(numbers(index), dtype=torch.int64).reshape(index.shape)
    rows = _from_the_start(index, x.shape[axis])
    return x.index_select(axis, rows.flatten()).reshape(*x.shape[:axis], *rows.shape, *x.shape[axis + 1 :])


def gather_elements(attributes: Attributes, x: Tensor, index: Tensor) -> Tensor:
    """GatherElements: of each place of `index` the element of x at that place, but along the axis where `index` says."""
    axis = attributes.get("axis", 0)
    return x.gather(axis, _from_the_start(index, x.shape[axis]))


def gather_nd(attributes: Attributes, x: Tensor, index: Tensor) -> Tensor:
    """GatherND: the rows at the indices that the last axis of `index` holds."""
    return x[tuple(index.unbind(-1))]


def scatter_elements(attributes: Attributes, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    """ScatterElements: a copy of x with `updates` put, or taken together with what is there, where GatherElements would look."""
    axis, how = attributes.get("axis", 0), attributes.get("reduction", "none")
    places = _from_the_start(index, x.shape[axis])
    return x.scatter(axis, places, updates) if how == "none" else x.scatter_reduce(axis, places, updates, REDUCTIONS[how])


def scatter_nd(attributes: Attributes, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    """ScatterND: a copy of x with the rows at `index` replaced, or added to."""
    return x.index_put(tuple(index.unbind(-1)), updates, accumulate=attributes.get("reduction", "none") == "add")


def top_k(attributes: Attributes, x: Tensor, count: Size | None = None) -> tuple[Tensor, Tensor]:
    """TopK: the largest, or the smallest, along an axis, in order, and their places. The number is an attribute before operator set 10."""
    k = attributes["k"] if count is None else numbers(count)[0]
    values, places = x.topk(k, attributes.get("axis", -1), bool(attributes.get("largest", 1)))
    return values, places


def arg_max(attributes: Attributes, x: Tensor) -> Tensor:
    """ArgMax: the place of the first of the largest along an axis."""
    return x.argmax(attributes.get("axis", 0), keepdim=bool(attributes.get("keepdims", 1)))


def arg_min(attributes: Attributes, x: Tensor) -> Tensor:
    """ArgMin: the place of the first of the smallest along an axis."""
    return x.argmin(attributes.get("axis", 0), keepdim=bool(attributes.get("keepdims", 1)))


def one_hot(attributes: Attributes, index: Tensor, depth: Size, values: Tensor) -> Tensor:
    """OneHot: a new axis of `depth`, with the second of `values` at the index and the first elsewhere."""
    size, axis = int(numbers(depth)[0]), attributes.get("axis", -1)
    places = torch.arange(size).view([-1, *[1] * (index.ndim - axis % (index.ndim + 1))])
    hot = _from_the_start(index.long(), size).unsqueeze(axis) == places
    return torch.where(hot, values[1], values[0])


def eye_like(attributes: Attributes, x: Tensor) -> Tensor:
    """EyeLike: ones on the k-th diagonal of a matrix as large as x, zeros elsewhere."""
    rows, columns = (torch.arange(size) for size in x.shape)
    dtype = DTYPES[attributes["dtype"]] if "dtype" in attributes else x.dtype
    return torch.eq(columns[None] - rows[:, None], attributes.get("k", 0)).to(dtype)


def triangle(attributes: Attributes, x: Tensor, k: Size | None = None) -> Tensor:
    """Trilu: zero below (`upper`) or above the k-th diagonal."""
    diagonal = 0 if k is None else numbers(k)[0]
    return x.triu(diagonal) if attributes.get("upper", 1) else x.tril(diagonal)


def _from_the_start(index: Tensor, size: int) -> Tensor:
    """Places that count from the end where they are negative, as PyTorch takes them."""
    return torch.where(index < 0, index + size, index)
