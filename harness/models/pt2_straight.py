"""Operators of a saved program whose derivative is 0 wherever it exists, with a straight-through gradient instead; see `straight`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.models.straight import (
    Passage,
    Role,
    integers_that_return,
    straight_cast,
    straight_ceil,
    straight_floor,
    straight_round,
    straight_sign,
    straight_through,
    straight_trunc,
)

CASTS = {"to.dtype", "to.dtype_layout", "_to_copy.default", "type_as.default"}
ARITHMETIC = {"add.Tensor", "sub.Tensor", "mul.Tensor", "div.Tensor", "add.Scalar", "sub.Scalar", "mul.Scalar", "div.Scalar", "rsub.Scalar"}
OUTGROWING = ("neg", "abs")
# Operators that do the same to integers carried as floats, beside the arithmetic whose result is one.
PASSING = """
neg abs relu clamp clamp_min clamp_max minimum maximum cat flatten reshape view _unsafe_view squeeze unsqueeze permute transpose expand
clone alias contiguous sum
""".split()  # noqa: SIM905


def _round_decimals(x: Tensor, *, decimals: int) -> Tensor:
    return straight_through(x, x.detach().round(decimals=decimals))


def _divide(x: Tensor, y: Any, *, rounding_mode: str | None) -> Tensor:
    if rounding_mode is None:
        return torch.div(x, y)
    stepped = torch.div(x.detach(), y.detach() if isinstance(y, Tensor) else y, rounding_mode=rounding_mode)
    return straight_through(torch.div(x, y), stepped)


def _floor_divide(x: Tensor, y: Any) -> Tensor:
    return _divide(x, y, rounding_mode="floor")


STRAIGHT: dict[str, Callable[..., Any]] = {
    "round.default": straight_round,
    "round.decimals": _round_decimals,
    "floor.default": straight_floor,
    "ceil.default": straight_ceil,
    "trunc.default": straight_trunc,
    "fix.default": straight_trunc,
    "sign.default": straight_sign,
    "div.Tensor_mode": _divide,
    "div.Scalar_mode": _divide,
    "floor_divide.default": _floor_divide,
    "floor_divide.Scalar": _floor_divide,
}
"""Overloads of torch.ops.aten -> what is called in their place."""


def returning_casts(nodes: Sequence[dict[str, Any]], dtypes: dict[str, torch.dtype], results: set[str]) -> set[str]:
    """Outputs of the casts to integers that `cast` is called for.

    Args:
        nodes: of the serialized graph, in order.
        dtypes: of every value of the graph.
        results: the graph's outputs.
    """
    return integers_that_return([_passage(node, dtypes) for node in nodes], results)


def _passage(node: dict[str, Any], dtypes: dict[str, torch.dtype]) -> Passage:
    inputs = [name for item in node["inputs"] for name in names_in(item["arg"])]
    outputs = [name for output in node["outputs"] for name in names_in(output)]
    operator = node["target"].removeprefix("torch.ops.aten.")
    role = _role(operator, [dtypes.get(name) for name in inputs[:1]], [dtypes.get(name) for name in outputs])
    made = dtypes.get(outputs[0]) if outputs else None
    narrow = made is not None and not made.is_floating_point and made.itemsize < torch.int32.itemsize
    outgrows = narrow and (operator in ARITHMETIC or operator.split(".")[0] in OUTGROWING)
    return Passage(role, inputs, outputs[0] if outputs else "", narrow, outgrows)


def _role(operator: str, inputs: list[torch.dtype | None], outputs: list[torch.dtype | None]) -> Role:
    if len(outputs) != 1 or outputs[0] is None or not inputs or inputs[0] is None:
        return Role.OTHER
    to_float, from_float = outputs[0].is_floating_point, inputs[0].is_floating_point
    if operator in CASTS:
        integers = not to_float and outputs[0] is not torch.bool
        return Role.LEAVE if to_float else Role.ENTER if from_float and integers else Role.OTHER
    if operator in ARITHMETIC:
        return Role.LEAVE if to_float else Role.PASS
    return Role.PASS if operator.split(".")[0] in PASSING and not to_float else Role.OTHER


def names_in(argument: dict[str, Any]) -> list[str]:
    """Names of the tensors that a serialized argument refers to."""
    ((kind, value),) = argument.items()
    return [value["name"]] if kind == "as_tensor" else [item["name"] for item in value] if kind == "as_tensors" else []


def cast(dtype: torch.dtype) -> Callable[..., Tensor]:
    """What is called for such a cast, whatever its arguments after the tensor: the result's type is known."""
    return lambda x, *_, **__: straight_cast(x, dtype)
