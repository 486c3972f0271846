"""What onnxruntime refuses, and which Q/DQ layouts its CPU kernels run in float. Tried with onnxruntime 1.32 on x86-64.

It takes any Q/DQ file: where a pattern does not match, it dequantizes, computes in float and quantizes again, slower than float32.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from onnx import NodeProto, TensorProto

from export.checked import STANDARD_DOMAINS
from export.lint import qdq
from export.lint.finding import Rule, Severity
from export.lint.graph import Graph, argument, label, schema
from export.lint.placement import float_layers

INT8, UINT8 = TensorProto.INT8, TensorProto.UINT8
SATURATING = 64  # 2 * 255 * 64 = 32,640 is the largest sum of two products that fits 16 bits
LARGEST_SUM = 2**15 - 1
JOINING = ("Add", "Mul", "Concat")
VERSION_WORDS = ("unsupported model ir version", "official released onnx opset versions")
UNKNOWN_WORDS = ("is not a registered function/op", "no op registered for")


def versions(graph: Graph) -> Iterator[tuple[str, str]]:
    """IR version or operator sets that the installed onnxruntime does not read."""
    if any(part in graph.refusal.lower() for part in VERSION_WORDS):
        yield "", f"onnxruntime says: {graph.refusal}."


def refused(graph: Graph) -> Iterator[tuple[str, str]]:
    """Whatever else the installed onnxruntime says when it loads the file, without optimising it."""
    if graph.refusal and not any(part in graph.refusal.lower() for part in (*VERSION_WORDS, *UNKNOWN_WORDS)):
        named = re.search(r"node with name '([^']+)'|node:\s*'([^']+)'", graph.refusal)
        yield (named.group(1) or named.group(2)) if named else "", f"onnxruntime says: {graph.refusal}."


def unfused(graph: Graph) -> Iterator[tuple[str, str]]:
    """Quantized convolutions whose result is not quantized at once."""
    for node in graph.of_type("Conv"):
        if _both(graph, node) and not _quantized_next(graph, node.output[0]):
            follower = _only_reader(graph, node.output[0])
            if follower is None or follower.op_type not in ("Relu", "Clip"):
                yield label(node), "its inputs are quantized and its output is not: QLinearConv needs both, so it runs in float."


def unfused_activation(graph: Graph) -> Iterator[tuple[str, str]]:
    """A Relu that its quantization does not make superfluous: only a zero point at the lowest number does."""
    for node in graph.of_type("Conv", "Gemm", "MatMul"):
        follower = _only_reader(graph, node.output[0])
        if not _both(graph, node) or follower is None or follower.op_type != "Relu":
            continue
        quantize = _only_reader(graph, follower.output[0])
        if quantize is not None and quantize.op_type == "QuantizeLinear" and not _starts_at_zero(graph, quantize):
            yield (
                label(node),
                f"the Relu behind it is quantized symmetrically: it stays between {node.op_type} and QuantizeLinear, in float.",
            )
        elif quantize is None or quantize.op_type != "QuantizeLinear":
            yield label(node), f"its inputs are quantized, the output of its Relu is not: {node.op_type} runs in float."


def float_bias(graph: Graph) -> Iterator[tuple[str, str]]:
    """A float bias where no QuantizeLinear follows."""
    for node in graph.of_type("Gemm"):
        bias = argument(node, 2)
        if _both(graph, node) and bias and qdq.dequantizer(graph, bias) is None and not _quantized_next(graph, node.output[0]):
            yield label(node), "its bias is float and its output is not quantized: QGemm takes neither together, so it runs in float."


def half_quantized(graph: Graph) -> Iterator[tuple[str, str]]:
    """Layers with one quantized and one float input."""
    for node, activation, weight in qdq.layers(graph):
        if activation != weight:
            place = int(activation)
            yield (
                label(node),
                f"{node.op_type} with a quantized {('weight', 'input')[place]} and a float {('input', 'weight')[place]}: it runs in float.",
            )


def joined(graph: Graph) -> Iterator[tuple[str, str]]:
    """Sums, products and concatenations of a quantized and a float tensor, or with a float result."""
    for node in graph.of_type(*JOINING):
        sides = [qdq.quantizer(graph, name) is not None for name in node.input if not graph.constant(name)]
        if any(sides) and not all(sides):
            yield label(node), f"{sides.count(True)} of {len(sides)} inputs of {node.op_type} are quantized: it runs in float."
        elif len(sides) > 1 and all(sides) and not _quantized_next(graph, node.output[0]):
            yield label(node), f"the inputs of {node.op_type} are quantized and its output is not: it runs in float."


def computed_scales(graph: Graph) -> Iterator[tuple[str, str]]:
    """Scales and zero points that are not stored."""
    for node in qdq.pairs(graph):
        for name in node.input[1:3]:
            if name and not graph.constant(name):
                yield label(node), f"'{name}' is not stored in the file: integer kernels want stored scales and zero points."


def scales(graph: Graph) -> Iterator[tuple[str, str]]:
    """Zero, negative, NaN or infinite scales, which onnxruntime takes, and answers with anything."""
    for node in qdq.pairs(graph):
        value = qdq.scale(graph, node)
        if value is not None and not (np.isfinite(value) & (value > 0)).all():
            yield label(node), f"the scale is {value[~(np.isfinite(value) & (value > 0))].flat[0]:g}; expected > 0."


def saturation(graph: Graph) -> Iterator[tuple[str, str]]:
    """Eight-bit weights: on AVX2 and AVX-512 without VNNI two products can overflow 16 bits. One finding for the file."""
    if graph.exact_integers:
        return
    layers, wide = 0, []
    for node, activation, _ in qdq.layers(graph):
        maker = qdq.dequantizer(graph, node.input[1])
        stored = graph.value(argument(maker, 0)) if activation and maker is not None else None
        if stored is None or stored.dtype != np.int8 or not stored.size:
            continue
        layers += 1
        if 2 * qdq.largest_code(graph, node.input[0]) * int(np.abs(stored.astype(np.int16)).max()) > LARGEST_SUM:
            wide.append(label(node))
    if wide:
        reason = "CPUs with AVX2 or AVX-512 without VNNI saturate and answer differently."
        yield wide[0], f"weights beyond ±{SATURATING} in {len(wide)} of {layers} layers of eight bits: {reason}"


def unknown(graph: Graph) -> Iterator[tuple[str, str]]:
    """Operators that neither the ONNX standard nor onnxruntime defines."""
    for node in graph.nodes:
        if node.domain in STANDARD_DOMAINS:
            if schema(node, graph.opset) is None:
                yield label(node), f"the ONNX standard has no operator {node.op_type} in operator set {graph.opset}."
        elif node.domain not in ("com.microsoft", "com.microsoft.nchwc", "ai.onnx.ml"):
            yield label(node), f"the operator {node.domain}::{node.op_type} needs a library of its own, which is not loaded."


def _both(graph: Graph, node: NodeProto) -> bool:
    return len(node.input) >= 2 and all(qdq.dequantizer(graph, name) is not None for name in node.input[:2])


def _only_reader(graph: Graph, name: str) -> NodeProto | None:
    readers = graph.readers.get(name, [])
    return readers[0] if len(readers) == 1 else None


def _quantized_next(graph: Graph, name: str) -> bool:
    reader = _only_reader(graph, name)
    return reader is not None and reader.op_type == "QuantizeLinear"


def _starts_at_zero(graph: Graph, quantize: NodeProto) -> bool:
    """Whether the lowest number stands for 0, so that quantizing clips negatives by itself."""
    zero = graph.value(argument(quantize, 2))
    lowest = -128 if qdq.integer_type(graph, quantize) == INT8 else 0
    return (zero is None and lowest == 0) or (zero is not None and bool((zero == lowest).all()))


LAYOUT = "Use the flavour ort-int8: UINT8 asymmetric activations, Q/DQ behind every operator, INT32 bias."

RULES = (
    Rule(
        "ORT001", Severity.ERROR, "versions are those of the installed onnxruntime", "Export it again with opset_version=20.", versions,
        refused=True, words=VERSION_WORDS,
    ),
    Rule(
        "ORT002", Severity.ERROR, "operators are known", "Write it with standard operators.", unknown, refused=True, words=UNKNOWN_WORDS,
    ),
    Rule("ORT003", Severity.ERROR, "scales are positive", "Calibrate again.", scales),
    Rule(
        "ORT004", Severity.ERROR, "the installed onnxruntime loads the file", "Mend what it names, or export again with opset_version=20.",
        refused, refused=True, words=("could not find an implementation", "failed to find kernel", "exception during initialization"),
    ),
    Rule("ORT010", Severity.WARNING, "the output of a quantized convolution is quantized", LAYOUT, unfused),
    Rule("ORT011", Severity.WARNING, "a Relu's zero point is the lowest number", LAYOUT, unfused_activation),
    Rule("ORT012", Severity.WARNING, "the bias is INT32", LAYOUT, float_bias),
    Rule("ORT013", Severity.WARNING, "all inputs of a layer are quantized, or none", LAYOUT, half_quantized),
    Rule("ORT014", Severity.WARNING, "sums and concatenations are quantized all round", LAYOUT, joined),
    Rule("ORT015", Severity.WARNING, "scales are stored", "Quantize statically.", computed_scales),
    Rule("ORT016", Severity.INFO, "every layer is quantized", "Quantize it too, or accept what its part of the time costs.", float_layers),
    Rule(
        "ORT020", Severity.WARNING, "weights have 7 bits where CPUs saturate",
        "Use the flavour ort-int8-rr (reduce_range) or run it with session.x64quantprecision=1 (ort-int8-precise).", saturation,
    ),
)  # fmt: skip
