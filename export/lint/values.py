"""Operator set, types and shapes as TensorRT takes them."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import TensorProto

from export.lint import qdq
from export.lint.finding import Rule, Severity
from export.lint.graph import Graph, argument, attribute, dims, label
from export.lint.quantization import NEW_GPUS

OLDEST, PER_CHANNEL, NEWEST = 9, 13, 21
"""Operator sets: the oldest the parser's authors support; the first with one scale per channel; the newest of ONNX 1.16, with which the
parser of TensorRT 10.3 (JetPack 6) was built (onnx-tensorrt, docs/Changelog.md: ONNX 1.17 came with 10.6)."""

_NAMES = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "INT8", "UINT8", "INT32", "INT64", "BOOL")
TYPES = frozenset(TensorProto.DataType.Value(name) for name in _NAMES)

_SIZES = {
    "ConstantOfShape": (0,), "CumSum": (1,), "Expand": (1,), "Loop": (0,), "Pad": (1, 3), "Range": (0, 1, 2), "Reshape": (1,),
    "Resize": (3,), "Slice": (1, 2, 3, 4), "Split": (1,), "Tile": (1,), "TopK": (1,),
    "BlackmanWindow": (0,), "HammingWindow": (0,), "HannWindow": (0,),
}  # fmt: skip
"""Operator -> inputs whose values decide a shape."""


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
    """Tensors of a type that TensorRT does not have, or has between QuantizeLinear and DequantizeLinear only."""
    quantized = {name for node in qdq.pairs(graph) for name in (*node.input, *node.output)} - {value.name for value in graph.inputs}
    for value in (*graph.inputs, *graph.model.graph.output):
        if (held := value.type.WhichOneof("value")) not in ("tensor_type", None):
            yield value.name, f"a {str(held).removesuffix('_type')} instead of a tensor, which TensorRT does not have."
    for name in dict.fromkeys([*(value.name for value in graph.inputs), *graph.stored, *graph.makers]):
        kind = graph.type(name)
        if kind and kind not in TYPES and not (name in quantized and kind in NEW_GPUS):
            yield name, f"a tensor of type {_name(kind)}, which TensorRT does not have{' outside of Q/DQ' * (kind in NEW_GPUS)}."
    for node in graph.of_type("Cast"):
        target = attribute(node, "to", TensorProto.FLOAT)
        if target not in TYPES and not graph.type(node.output[0]):
            yield label(node), f"casts to {_name(target)}, which TensorRT does not have."


def wide(graph: Graph) -> Iterator[tuple[str, str]]:
    """Double precision, which is computed in single."""
    for value in graph.inputs:
        if graph.type(value.name) == TensorProto.DOUBLE:
            yield value.name, "an input of type DOUBLE: TensorRT computes it in FLOAT."


def shape_inputs(graph: Graph) -> Iterator[tuple[str, str]]:
    """Inputs of the network whose values, not sizes, decide a shape."""
    for node in graph.of_type(*_SIZES):
        for place in _SIZES[node.op_type]:
            if found := sorted(graph.fed_by(argument(node, place))):
                yield label(node), f"the values of the network's input '{found[0]}' decide a shape ({node.op_type}, input {place})."


def ends(graph: Graph) -> Iterator[tuple[str, str]]:
    """More or fewer than one input and one output."""
    counts = len(graph.inputs), len(graph.model.graph.output)
    if counts != (1, 1):
        yield "", f"{counts[0]} inputs and {counts[1]} outputs; expected one of each: images in, logits out."


def _name(kind: int) -> str:
    return TensorProto.DataType.Name(kind) if kind in TensorProto.DataType.values() else str(kind)


FIXED = "Fix every other size when exporting; this program gives TensorRT a profile for the batch alone."

RULES = (
    Rule(
        "TRT040", Severity.WARNING, f"operator set {OLDEST} to {NEWEST}",
        "Export it again with opset_version=20, which this program writes.", opset,
    ),
    Rule("TRT041", Severity.ERROR, "only the batch is dynamic", FIXED, dynamic_inputs),
    Rule(
        "TRT042", Severity.ERROR, "tensors have types of TensorRT", "Use float, int32, int64 or bool.", types, refused=True,
        words=("failed to convert onnx date type", "failed to import initializer", "unsupported data type", " has datatype "),
    ),
    Rule("TRT043", Severity.WARNING, "inputs are not double", "Export the model in float32.", wide),
    Rule(
        "TRT044", Severity.ERROR, "no input decides a shape", "Make it a constant; this program feeds images alone.", shape_inputs,
        refused=True, words=("no optimization profile has been defined", "missing values for shape input"),
    ),
    Rule(
        "TRT045", Severity.ERROR, "one input and one output", "Export a classifier: wrap it so that it returns the logits alone.", ends,
        words=("expected one of each",),
    ),
)  # fmt: skip
