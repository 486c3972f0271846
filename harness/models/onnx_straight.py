"""Steps that an ONNX file writes as a cast to integers and, some operators later, back: carried as floats, see `straight`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnx import GraphProto, NodeProto, helper
from torch import Tensor

from harness.models.straight import Passage, Role, integers_that_return, straight_cast

StepFunction = Callable[..., Any]
FLOATS = (1, 10, 11, 16)  # numbers of onnx.TensorProto: FLOAT, FLOAT16, DOUBLE, BFLOAT16
INTEGERS = {2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64}
NARROW = (2, 3, 5)  # of them, those of less than 32 bits
OUTGROWING = {"Add", "Sub", "Mul", "Neg", "Abs"}  # whose result may lie outside of the range of these
# Operators that do the same to integers carried as floats.
PASSING = {
    "Add", "Sub", "Mul", "Neg", "Min", "Max", "Clip", "Abs", "Relu", "Identity", "Concat", "Flatten", "Reshape", "Squeeze", "Transpose",
    "Unsqueeze", "ReduceSum",
}  # fmt: skip


LEAVING = {"DequantizeLinear", "ConvInteger", "MatMulInteger"}  # which take integers and make floats


def named_casts(graph: GraphProto) -> list[NodeProto]:
    """The nodes, with a Cast in place of every CastLike whose type the graph tells."""
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    types |= {value.name: value.type.tensor_type.elem_type for value in graph.input}
    nodes = list[NodeProto]()
    for node in graph.node:
        if node.op_type == "CastLike" and (kind := types.get(node.input[1])):
            node = helper.make_node("Cast", node.input[:1], node.output, node.name, to=kind)
        if node.op_type == "Cast":
            types[node.output[0]] = _target(node)
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.HasField("t"):
                types[node.output[0]] = attribute.t.data_type
        nodes.append(node)
    return nodes


def straight_nodes(nodes: Sequence[NodeProto], results: set[str]) -> set[str]:
    """Outputs of the casts to integers that are carried as floats.

    Args:
        nodes: of the graph, in order.
        results: the graph's outputs.
    """
    return integers_that_return(list(map(_passage, nodes)), results)


def _passage(node: NodeProto) -> Passage:
    role = _role(node)
    narrow = role is Role.ENTER and _target(node) in NARROW
    return Passage(role, node.input, node.output[0] if node.output else "", narrow, node.op_type in OUTGROWING)


def _target(node: NodeProto) -> int:
    """The type that a Cast makes."""
    return next((attribute.i for attribute in node.attribute if attribute.name == "to"), 0)


def _role(node: NodeProto) -> Role:
    if node.op_type != "Cast":
        return Role.LEAVE if node.op_type in LEAVING else Role.PASS if node.op_type in PASSING else Role.OTHER
    target = _target(node)
    return Role.LEAVE if target in FLOATS else Role.ENTER if target in INTEGERS else Role.OTHER


def cast(attributes: dict[str, Any], x: Tensor) -> Tensor:
    """Cast to an integer type, carried as a float where x is one."""
    dtype = INTEGERS[attributes["to"]]
    return straight_cast(x, dtype) if x.is_floating_point() else x.to(dtype)


STEPS: dict[str, StepFunction] = {"Cast": cast}
