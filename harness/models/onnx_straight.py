"""Steps that ONNX writes with integers or booleans in between (a cast to integers and back, a comparison and a choice of two constants).

No gradient passes through an integer tensor. Where every reader of such a value is of a kind known here, it is carried as float32 (exact
up to 2**24) with a straight-through gradient; elsewhere (an index, a mask) it stays what the file says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnx import NodeProto
from torch import Tensor

from harness.models.straight import straight_cast

StepFunction = Callable[..., Any]
FLOATS = (1, 10, 11, 16)  # numbers of onnx.TensorProto: FLOAT, FLOAT16, DOUBLE, BFLOAT16
INTEGERS = {2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64}
# Operators that do the same to integers carried as floats.
PASSING = {
    "Add", "Sub", "Mul", "Neg", "Min", "Max", "Clip", "Abs", "Relu", "Identity", "Concat", "Flatten", "Reshape", "Squeeze", "Transpose",
    "Unsqueeze", "ReduceSum",
}  # fmt: skip


def straight_nodes(nodes: Sequence[NodeProto], results: set[str]) -> set[str]:
    """First outputs of the casts to an integer type whose value comes back as a float, whatever lies between.

    Args:
        nodes: of the graph, in order.
        results: the graph's outputs, which no cast follows.
    """
    readers: dict[str, list[NodeProto]] = defaultdict(list)
    for node in nodes:
        for key in node.input:
            readers[key].append(node)
    returning: set[str] = set()
    for node in reversed(nodes):
        output = node.output[0] if node.output else ""
        if output not in results and readers[output] and all(_returns(reader, returning) for reader in readers[output]):
            returning.add(output)
    return {node.output[0] for node in nodes if node.op_type == "Cast" and _target(node) in INTEGERS and node.output[0] in returning}


def _returns(reader: NodeProto, returning: set[str]) -> bool:
    if reader.op_type == "Cast":
        return _target(reader) in FLOATS
    return reader.op_type in PASSING and reader.output[0] in returning


def _target(node: NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "to"), 0)


def cast(attributes: dict[str, Any], x: Tensor) -> Tensor:
    """Cast to an integer type, carried as a float where x is one."""
    dtype = INTEGERS[attributes["to"]]
    return straight_cast(x, dtype) if x.is_floating_point() else x.to(dtype)


STEPS: dict[str, StepFunction] = {"Cast": cast}
