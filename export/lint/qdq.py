"""Questions about Q/DQ pairs that several rules ask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from export.lint.graph import WEIGHTED, Graph, argument, attribute
from export.placement import SAME_VALUES

PASSING = SAME_VALUES | {"Cast"}
"""Operators that hand values on: a Q/DQ pair before them does for what follows."""

MAX_PASSED = 100
UINT8 = 255


def pairs(graph: Graph) -> Iterator[NodeProto]:
    """Every QuantizeLinear and DequantizeLinear."""
    return graph.of_type("QuantizeLinear", "DequantizeLinear")


def quantized(graph: Graph) -> bool:
    """Whether the file has any Q/DQ."""
    return next(pairs(graph), None) is not None


def dequantizer(graph: Graph, name: str) -> NodeProto | None:
    """The DequantizeLinear a tensor comes from, directly or through operators that only move values."""
    for _ in range(MAX_PASSED):
        node = graph.makers.get(name)
        if node is None:
            return None
        if node.op_type == "DequantizeLinear":
            return node
        if node.op_type not in PASSING or not node.input:
            return None
        name = node.input[0]
    return None


def quantizer(graph: Graph, name: str) -> NodeProto | None:
    """The QuantizeLinear behind the DequantizeLinear a tensor comes from, its codes clipped or not; None for stored integers too."""
    maker = _codes(graph, name)
    if maker is not None and maker.op_type == "Clip":
        maker = graph.makers.get(argument(maker, 0))
    return maker if maker is not None and maker.op_type == "QuantizeLinear" else None


def largest_code(graph: Graph, name: str) -> int:
    """The largest code of a dequantized activation: where a Clip of UINT8 leaves it, else that of UINT8 itself."""
    maker = _codes(graph, name)
    most = graph.value(argument(maker, 2)) if maker is not None and maker.op_type == "Clip" else None
    return UINT8 if most is None or most.dtype != np.uint8 or most.size != 1 else int(most.reshape(()))


def _codes(graph: Graph, name: str) -> NodeProto | None:
    """What makes the codes that a tensor was dequantized from."""
    node = dequantizer(graph, name)
    return graph.makers.get(argument(node, 0)) if node is not None else None


def layers(graph: Graph) -> Iterator[tuple[NodeProto, bool, bool]]:
    """Every weighted layer: (node, input quantized, weight quantized). Products of two activations have two inputs and no weight."""
    for node in graph.of_type(*WEIGHTED):
        if len(node.input) >= 2:
            yield node, dequantizer(graph, node.input[0]) is not None, dequantizer(graph, node.input[1]) is not None


def integer_type(graph: Graph, node: NodeProto) -> int:
    """The quantized element type of a QuantizeLinear or DequantizeLinear, 0 where unknown. Without a zero point it is UINT8 by default."""
    if node.op_type == "DequantizeLinear" and (kind := graph.type(argument(node, 0))):
        return kind
    zero = argument(node, 2)
    if zero:
        return graph.type(zero)
    chosen = attribute(node, "output_dtype", TensorProto.UNDEFINED)
    return int(chosen or (TensorProto.UINT8 if node.op_type == "QuantizeLinear" else graph.type(argument(node, 0))))


def scale(graph: Graph, node: NodeProto) -> NDArray[Any] | None:
    """The scale of a QuantizeLinear or DequantizeLinear where it is stored, float32."""
    value = graph.value(argument(node, 1))
    return None if value is None else value.astype(np.float32)


def per_channel(graph: Graph, node: NodeProto) -> bool:
    """Whether it has more than one scale."""
    shape = graph.shape(argument(node, 1))
    return shape is not None and len(shape) > 0 and shape != (1,)


def from_layer(graph: Graph, name: str) -> bool:
    """Whether a weighted layer with quantized inputs makes this tensor, for one reader: else the two cannot become one kernel."""
    node = graph.makers.get(name)
    return (
        node is not None
        and len(graph.readers.get(name, ())) == 1
        and node.op_type in WEIGHTED
        and len(node.input) >= 2
        and all(dequantizer(graph, part) is not None for part in node.input[:2])
    )


def before_pair(graph: Graph, name: str) -> str:
    """What a dequantized tensor was before its Q/DQ pair; the tensor itself where there is none."""
    node = quantizer(graph, name)
    return argument(node, 0) if node is not None else name
