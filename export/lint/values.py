"""Operator set, types and shapes as TensorRT takes them."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import TensorProto

from export.lint import qdq
from export.lint.finding import Rule, Severity
from export.lint.graph import Graph, attribute, dims, label

OLDEST, PER_CHANNEL, NEWEST = 9, 13, 21
"""Operator sets: the oldest the parser's authors support; the first with one scale per channel; the newest of ONNX 1.16, with which the
parser of TensorRT 10.3 (JetPack 6) was built (onnx-tensorrt, docs/Changelog.md: ONNX 1.17 came with 10.6)."""

_NAMES = (
    "FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "INT8", "UINT8", "INT32", "INT64", "BOOL", "FLOAT8E4M3FN", "INT4", "FLOAT4E2M1"
)  # fmt: skip
TYPES = frozenset(TensorProto.DataType.Value(name) for name in _NAMES)


def opset(graph: Graph) -> Iterator[tuple[str, str]]:
    """Operator sets outside of what TensorRT's parser was made for; it takes them and reads each operator as it knows it."""
    if graph.opset < OLDEST:
        yield "", f"operator set {graph.opset}; the parser supports {OLDEST} and newer."
    elif graph.opset > NEWEST:
        yield "", f"operator set {graph.opset}; TensorRT 10.3 (JetPack 6) knows none above {NEWEST}."
    elif graph.opset < PER_CHANNEL and any(qdq.per_channel(graph, node) for node in qdq.pairs(graph)):
        yield "", f"operator set {graph.opset} with one scale per channel, which came with {PER_CHANNEL}."


def dynamic_inputs(graph: Graph) -> Iterator[tuple[str, str]]:
    """Sizes other than the batch that are not fixed."""
    for value in graph.inputs:
        sizes = dims(value)
        if sizes is None:
            yield value.name, "an input whose number of dimensions is unknown."
        elif free := [f"{place} ({size or 'unnamed'})" for place, size in enumerate(sizes) if place and not isinstance(size, int)]:
            yield value.name, f"dimension {', '.join(free)} of the input is dynamic; only the batch, dimension 0, may be."


def types(graph: Graph) -> Iterator[tuple[str, str]]:
    """Tensors of a type that TensorRT does not have. Those of Q/DQ have rules of their own."""
    own = {name for node in qdq.pairs(graph) for name in (*node.input, *node.output)}
    for name in dict.fromkeys([*(value.name for value in graph.inputs), *graph.stored, *graph.makers]):
        kind = graph.type(name)
        if kind and kind not in TYPES and name not in own:
            yield name, f"a tensor of type {_name(kind)}, which TensorRT does not have."
    for node in graph.of_type("Cast"):
        target = attribute(node, "to", TensorProto.FLOAT)
        if target not in TYPES and not graph.type(node.output[0]):
            yield label(node), f"casts to {_name(target)}, which TensorRT does not have."


def wide(graph: Graph) -> Iterator[tuple[str, str]]:
    """Double precision, which is computed in single."""
    for value in graph.inputs:
        if graph.type(value.name) == TensorProto.DOUBLE:
            yield value.name, "an input of type DOUBLE: TensorRT computes it in FLOAT."


def _name(kind: int) -> str:
    return TensorProto.DataType.Name(kind) if kind in TensorProto.DataType.values() else str(kind)


EXPORT_AGAIN = "Export it again with opset_version=20 (what this program writes)."

RULES = (
    Rule("TRT040", Severity.WARNING, f"operator set {OLDEST} to {NEWEST}", EXPORT_AGAIN, opset),
    Rule(
        "TRT041", Severity.ERROR, "only the batch is dynamic",
        "Fix every other size when exporting; this program gives TensorRT a profile for the batch alone.", dynamic_inputs,
    ),
    Rule(
        "TRT042", Severity.ERROR, "tensors have types of TensorRT", "Use float, int32, int64 or bool.", types, refused=True,
        words=("failed to convert onnx date type", "failed to import initializer", "unsupported data type"),
    ),
    Rule("TRT043", Severity.WARNING, "inputs are not double", "Export the model in float32.", wide),
)  # fmt: skip
