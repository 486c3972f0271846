"""Where Q/DQ pairs must stand for TensorRT to fuse them into INT8 kernels. It takes these files all the same, and runs them slower.

Source: NVIDIA TensorRT documentation, "Working with quantized types", Q/DQ placement recommendations.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto

from export.lint import qdq
from export.lint.finding import Rule, Severity
from export.lint.graph import Graph, attribute, label
from export.placement import MIN_CHANNELS


def half_quantized(graph: Graph) -> Iterator[tuple[str, str]]:
    """Layers with one quantized and one float input."""
    for node, activation, weight in qdq.layers(graph):
        if activation != weight:
            quantized, left = ("input", "weight") if activation else ("weight", "input")
            yield (
                label(node),
                f"{node.op_type} with a quantized {quantized} and a float {left} ('{node.input[activation]}'): it runs in float.",
            )


def float_layers(graph: Graph) -> Iterator[tuple[str, str]]:
    """Layers without any Q/DQ in a file that has some."""
    if qdq.quantized(graph):
        for node, activation, weight in qdq.layers(graph):
            if not activation and not weight:
                yield label(node), f"{node.op_type} without Q/DQ in a quantized file: it runs in float."


def residual(graph: Graph) -> Iterator[tuple[str, str]]:
    """Additions that end a quantized branch: the other side, and only that, is quantized."""
    for node in graph.of_type("Add"):
        if len(node.input) != 2 or any(graph.constant(name) for name in node.input):
            continue
        branch = [qdq.from_layer(graph, qdq.before_pair(graph, name)) for name in node.input]
        pair = [qdq.quantizer(graph, name) is not None for name in node.input]
        if not any(branch):
            continue
        if all(pair):
            yield label(node), "both sides of the residual sum are quantized: convolution and sum do not fuse."
        elif not any(pair):
            yield label(node), "neither side of the residual sum is quantized: the skip connection travels in float."
        elif not branch[pair.index(False)]:
            yield label(node), "the convolution's side of the residual sum is quantized and the skip side is not: they do not fuse."


def concat(graph: Graph) -> Iterator[tuple[str, str]]:
    """Concatenations of tensors with unlike scales, or of quantized and float ones."""
    for node in graph.of_type("Concat"):
        makers = [qdq.dequantizer(graph, name) for name in node.input if not graph.constant(name)]
        found = [maker for maker in makers if maker is not None]
        if not found:
            continue
        if len(found) < len(makers):
            yield label(node), f"{len(found)} of {len(makers)} inputs are quantized: the concatenation runs in float."
            continue
        scales = [qdq.scale(graph, maker) for maker in found]
        if any(
            value is None or value.shape != scales[0].shape or not np.array_equal(value, scales[0])
            for value in scales
            if scales[0] is not None
        ):
            listed = ", ".join(f"{value.flat[0]:.4g}" for value in scales[:6] if value is not None and value.size)
            yield label(node), f"its inputs have different scales ({listed}): each is rescaled before it is joined."


def weight_axis(graph: Graph) -> Iterator[tuple[str, str]]:
    """Weights with one scale per something else than an output channel."""
    for node, _, weight in qdq.layers(graph):
        maker = graph.makers.get(node.input[1])
        if not weight or maker is None or maker.op_type != "DequantizeLinear" or not qdq.per_channel(graph, maker):
            continue
        shape = graph.shape(node.input[1])
        if shape is None:
            continue
        axis, expected = attribute(maker, "axis", 1), output_axis(node, len(shape))
        if axis % max(len(shape), 1) != expected:
            yield label(node), f"the weight's scales lie along axis {axis}; the output channels of {node.op_type} are axis {expected}."


def activation_scales(graph: Graph) -> Iterator[tuple[str, str]]:
    """Activations with one scale per channel."""
    for node in graph.of_type("QuantizeLinear"):
        if node.input and not graph.constant(node.input[0]) and qdq.per_channel(graph, node):
            yield label(node), f"the activation '{node.input[0]}' has one scale per channel: no INT8 kernel takes that."


def narrow(graph: Graph) -> Iterator[tuple[str, str]]:
    """Quantized convolutions with few input channels."""
    for node, activation, weight in qdq.layers(graph):
        shape = graph.shape(node.input[1])
        if node.op_type == "Conv" and activation and weight and shape and len(shape) > 1 and isinstance(shape[1], int):
            channels = shape[1] * attribute(node, "group", 1)
            if channels < MIN_CHANNELS:
                yield label(node), f"a convolution of {channels} input channels: INT8 kernels take {MIN_CHANNELS} at least, and pad."


def output_axis(node: NodeProto, rank: int) -> int:
    """Where a weight has its output channels: Conv (O, I, *k), ConvTranspose (I, O, *k), Gemm (I, O) or (O, I), MatMul (…, I, O)."""
    if node.op_type in ("Conv", "ConvTranspose"):
        return 0 if node.op_type == "Conv" else 1
    return 0 if node.op_type == "Gemm" and attribute(node, "transB", 0) else rank - 1


RULES = (
    Rule(
        "TRT020", Severity.WARNING, "all inputs of a layer are quantized, or none", "Put a Q/DQ pair on the other input too, or on none.",
        half_quantized,
    ),
    Rule("TRT021", Severity.INFO, "every layer is quantized", "Quantize it too, or accept what its part of the time costs.", float_layers),
    Rule("TRT022", Severity.WARNING, "only the skip side of a sum is quantized", "Put the Q/DQ pair on the skip side only.", residual),
    Rule("TRT023", Severity.WARNING, "one scale across a concatenation", "Give all its inputs the largest of their scales.", concat),
    Rule("TRT024", Severity.WARNING, "weights have one scale per output channel", "Quantize along the output channels.", weight_axis),
    Rule("TRT025", Severity.WARNING, "activations have one scale", "Calibrate activations per tensor.", activation_scales),
    Rule("TRT026", Severity.INFO, f"INT8 convolutions have {MIN_CHANNELS} input channels or more", "Leave it in float.", narrow),
)  # fmt: skip
