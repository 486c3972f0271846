"""What a single QuantizeLinear or DequantizeLinear must be for TensorRT. Tried on TensorRT for RTX 1.7.1, its parser and its builder."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import TensorProto

from export.lint import qdq
from export.lint.finding import Rule, Severity
from export.lint.graph import Graph, argument, attribute, label

INT8, UINT8, INT32 = TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32
NEW_GPUS: dict[int, str] = {
    TensorProto.FLOAT8E4M3FN: "FP8 needs an Ada GPU (SM 8.9) or newer",
    TensorProto.FLOAT4E2M1: "FP4 needs a Blackwell GPU or newer",
    TensorProto.INT4: "INT4 is for weights only, and layers with it compute in float",
}
QUANTIZED: set[int] = {INT8, UINT8, INT32, *NEW_GPUS}


def zero_points(graph: Graph) -> Iterator[tuple[str, str]]:
    """Zero points that are not 0, or not stored."""
    for node in qdq.pairs(graph):
        name = argument(node, 2)
        value = graph.value(name) if name else None
        if value is not None and value.astype(np.float32).any():
            yield (
                label(node),
                f"zero point {value.flat[np.flatnonzero(value.astype(np.float32))[0]]}; TensorRT knows symmetric scales only.",
            )
        elif name and value is None and not graph.constant(name):
            yield label(node), f"the zero point '{name}' is computed from an input; TensorRT reads stored ones only."


def unsigned(graph: Graph) -> Iterator[tuple[str, str]]:
    """UINT8: refused for weights; where the zero point is 0 the parser silently reads INT8."""
    for node in qdq.pairs(graph):
        if qdq.integer_type(graph, node) == UINT8:
            default = "" if argument(node, 2) else " (the default where there is no zero point)"
            yield (
                label(node),
                f"quantizes to UINT8{default}; TensorRT refuses it, or reads it as INT8 and clips everything above 127 steps.",
            )


def bias(graph: Graph) -> Iterator[tuple[str, str]]:
    """INT32 behind a DequantizeLinear, onnxruntime's way to store a bias."""
    for node in graph.of_type("DequantizeLinear"):
        if qdq.integer_type(graph, node) == INT32:
            yield label(node), "dequantizes INT32, a bias in onnxruntime's layout; TensorRT dequantizes 8 bits and fewer."


def integer_types(graph: Graph) -> Iterator[tuple[str, str]]:
    """Quantized types that TensorRT does not have."""
    for node in qdq.pairs(graph):
        kind = qdq.integer_type(graph, node)
        if kind and kind not in QUANTIZED:
            yield label(node), f"quantizes to {TensorProto.DataType.Name(kind)}, which TensorRT does not have."


def new_types(graph: Graph) -> Iterator[tuple[str, str]]:
    """Quantized types that not every GPU has."""
    for node in qdq.pairs(graph):
        if reason := NEW_GPUS.get(qdq.integer_type(graph, node)):
            yield label(node), f"{reason}; the Orin family (SM 8.7) computes in INT8."


def scale_stored(graph: Graph) -> Iterator[tuple[str, str]]:
    """Scales that depend on an input; NVIDIA's parser is known to crash on them."""
    for node in qdq.pairs(graph):
        name = argument(node, 1)
        if not graph.constant(name):
            yield label(node), f"the scale '{name}' is not stored in the file but computed while it runs."


def scale_positive(graph: Graph) -> Iterator[tuple[str, str]]:
    """Zero, negative, NaN or infinite scales. The parser takes an infinite one and answers with NaN."""
    for node in qdq.pairs(graph):
        value = qdq.scale(graph, node)
        wrong = value[~(np.isfinite(value) & (value > 0))] if value is not None else np.empty(0)
        if wrong.size:
            yield (
                label(node),
                f"the scale is {wrong.flat[0]:g} ({wrong.size} of {0 if value is None else value.size} values); expected > 0.",
            )


def scale_shape(graph: Graph) -> Iterator[tuple[str, str]]:
    """As many scales as the quantized axis is long, in one dimension."""
    for node in qdq.pairs(graph):
        scales, data = graph.shape(argument(node, 1)), graph.shape(argument(node, 0))
        if not scales or scales == (1,) or data is None or (len(scales) > 1 and attribute(node, "block_size", 0)):
            continue
        axis = attribute(node, "axis", 1)
        if len(scales) > 1 or not -len(data) <= axis < len(data):
            yield label(node), f"scales of shape {scales} along axis {axis} of a tensor of shape {data}."
        elif isinstance(data[axis], int) and data[axis] != scales[0]:
            yield label(node), f"{scales[0]} scales along axis {axis}, which is {data[axis]} long."


SYMMETRIC = "Quantize again with symmetric INT8, zero point 0 (flavour trt-int8)."

RULES = (
    Rule(
        "TRT001", Severity.ERROR, "zero points are 0", SYMMETRIC, zero_points, refused=True,
        words=("non-zero zero point", "shiftisallzeros", "asymmetric quantization", "`zero_point` which is not an initializer"),
    ),
    Rule(
        "TRT002", Severity.ERROR, "no UINT8 Q/DQ", SYMMETRIC, unsigned, refused=True,
        words=("unsupported input type of uint8",),
    ),
    Rule(
        "TRT003", Severity.ERROR, "the bias is float", "Keep the bias in float (quantize_static: QuantizeBias=False).", bias, refused=True,
        words=("has type int32 but must have type fp8",),
    ),
    Rule(
        "TRT004", Severity.ERROR, "quantized types are INT8", SYMMETRIC, integer_types, refused=True,
        words=("output_dtype specifies", "unsupported input type of int"),
    ),
    Rule("TRT005", Severity.WARNING, "the GPU has the quantized types", SYMMETRIC, new_types, words=("hw-specific datatypes",)),
    Rule("TRT006", Severity.ERROR, "scales are stored", "Store the scale in the file: static quantization.", scale_stored, refused=True),
    Rule(
        "TRT007", Severity.ERROR, "scales are positive", "Calibrate again; a tensor that is always 0 takes any positive scale.",
        scale_positive, refused=True, words=("scale coefficients must all be positive",),
    ),
    Rule(
        "TRT008", Severity.ERROR, "one scale, or one per channel",
        "Give the tensor one scale, or as many as its axis is long, and name that axis.", scale_shape, refused=True,
        words=("number of scales is not equal", "scalesize", "block quantization"),
    ),
)  # fmt: skip
