"""Operators of deployed files written out in those of `onnx_operators`: integer ones, and onnxruntime's own.

A file that was quantized in "operator format", or that onnxruntime has saved after it had optimised it, holds operators that are several in
one. Each becomes what its definition says: an integer convolution is the float one between a DequantizeLinear for every input and a
QuantizeLinear, so that a straight-through gradient passes (`onnx_quantize`). Defined by https://onnx.ai/onnx/operators/ and
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from export.session import first_line
from harness.errors import UsageError
from harness.models.onnx_operators import bounded
from harness.models.onnx_support import refusal, title

OWN_DOMAIN = "com.microsoft"
# An activation that is part of another operator -> what its parameters are called, in their order.
ACTIVATION_PARAMETERS = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "Clip": ("min", "max")}


class Writer:
    """Collects the nodes that take one node's place; the last of them gives the result.

    Args:
        node: that is written out.
        stored: the graph's tensors by name.

    Attributes:
        nodes, added: what is written, and the tensors that it stores.
        attributes: the node's, by name, as Python values. A rule takes out those that its operators don't have.
        inputs: the names of the node's inputs; empty ones for those that are left out, and behind the last.
    """

    def __init__(self, node: NodeProto, stored: dict[str, TensorProto]) -> None:
        self.node, self.stored = node, stored
        self.nodes: list[NodeProto] = []
        self.added: list[TensorProto] = []
        self.attributes: dict[str, Any] = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        self.inputs = [*node.input, *[""] * 9]

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The name of the output of a new node. Empty inputs at the end are left out."""
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        name = f"{self.node.output[0]}/{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], self.node.name, **attributes))
        return name

    def store(self, values: np.ndarray) -> str:
        """The name of a new stored tensor."""
        name = f"{self.node.output[0]}/{len(self.nodes)}/stored"
        self.added.append(numpy_helper.from_array(values, name))
        return name

    def constant(self, place: int) -> np.ndarray:
        """The values of a stored input. Raises UsageError: it is computed."""
        name = self.inputs[place]
        if name not in self.stored:
            raise UsageError(f"{title(self.node)}: its input '{name}' is computed; expected a stored tensor")
        return np.array(numpy_helper.to_array(self.stored[name]))

    def real(self, value: str, scale: str, zero: str, *, axis: int = 1) -> str:
        """Integers as the numbers that they stand for."""
        return self.add("DequantizeLinear", value, scale, zero, axis=axis)

    def activate(self, value: str, kind: str, parameters: list[float]) -> None:
        """An activation of another operator, if it has one."""
        if kind:
            self.add(kind, value, **dict(zip(ACTIVATION_PARAMETERS.get(kind, ()), parameters, strict=False)))


Rule = Callable[[Writer], Any]


def q_conv(w: Writer) -> None:
    """QLinearConv: the weight's scale may be one per output; the bias is of the scales of both factors."""
    weight, scale, zero, y_scale, y_zero, bias = w.inputs[3:9]
    inputs = [w.real(*w.inputs[:3]), w.real(weight, scale, zero, axis=0)]
    if bias:
        inputs.append(w.real(bias, w.add("Mul", w.inputs[1], scale), "", axis=0))
    w.add("QuantizeLinear", w.add("Conv", *inputs, **w.attributes), y_scale, y_zero)


def q_matmul(w: Writer) -> None:
    """QLinearMatMul: a scale per row of the first factor, per column of the second."""
    a, b = w.real(*w.inputs[:3], axis=-2), w.real(*w.inputs[3:6], axis=-1)
    w.add("QuantizeLinear", w.add("MatMul", a, b), *w.inputs[6:8])


def q_gemm(w: Writer) -> None:
    """QGemm: alpha (A B + C), a float result where it has no scale."""
    weight, scale, zero, bias, y_scale, y_zero = w.inputs[3:9]
    inputs = [w.real(*w.inputs[:3]), w.real(weight, scale, zero, axis=0 if w.attributes.get("transB") else 1)]
    if bias:
        inputs.append(w.real(bias, w.add("Mul", w.inputs[1], scale), "", axis=-1))
    product = w.add("Gemm", *inputs, **w.attributes, beta=w.attributes.get("alpha", 1.0))
    if y_scale:
        w.add("QuantizeLinear", product, y_scale, y_zero)


def q_unary(kind: str) -> Rule:
    """An operator of one integer tensor: x and the result, each with its scale and zero point."""

    def rule(w: Writer) -> None:
        w.add("QuantizeLinear", w.add(kind, w.real(*w.inputs[:3]), **w.attributes), *w.inputs[3:5])

    return rule


def q_binary(kind: str) -> Rule:
    """An operator of two integer tensors: a, b and the result, each with its scale and zero point."""

    def rule(w: Writer) -> None:
        w.add("QuantizeLinear", w.add(kind, w.real(*w.inputs[:3]), w.real(*w.inputs[3:6])), *w.inputs[6:8])

    return rule


def q_concat(w: Writer) -> None:
    """QLinearConcat: the scale and zero point of the result come first."""
    y_scale, y_zero, *parts = w.node.input
    real = [w.real(*parts[place : place + 3]) for place in range(0, len(parts), 3)]
    w.add("QuantizeLinear", w.add("Concat", *real, **w.attributes), y_scale, y_zero)


def q_softmax(w: Writer) -> None:
    """QLinearSoftmax along one axis, which it does from operator set 13 on."""
    if w.attributes.pop("opset", 0) < 13:
        raise UsageError(f"{title(w.node)}: of an operator set before 13, where the axes from one on are one")
    q_unary("Softmax")(w)


def integers_to_float(w: Writer) -> None:
    """MatMulIntegerToFloat: a product of integers, times both scales, plus a bias."""
    a, b, a_scale, b_scale, a_zero, b_zero, bias = w.inputs[:7]
    product = w.add("Cast", w.add("MatMulInteger", a, b, a_zero, b_zero), to=TensorProto.FLOAT)
    result = w.add("Mul", product, w.add("Mul", a_scale, b_scale))
    if bias:
        w.add("Add", result, bias)


def dynamic_matmul(w: Writer) -> None:
    """DynamicQuantizeMatMul: the first factor is quantized by its own range."""
    codes = w.add("DynamicQuantizeLinear", w.inputs[0])
    scale, zero = f"{codes}/scale", f"{codes}/zero"
    w.nodes[-1].output.extend([scale, zero])
    w.inputs = [codes, w.inputs[1], scale, w.inputs[2], zero, *w.inputs[3:]]
    integers_to_float(w)


def n_bits_matmul(w: Writer) -> None:
    """MatMulNBits: weights (out, in) in blocks along `in`, of 2, 4 or 8 bits, the first in the low ones; zero points alike, or float.

    Raises:
        NotImplementedError: more weights than any classifier has.
        UsageError: columns in another order (`g_idx`), or a number of bits that does not divide a byte.
    """
    out, columns, bits, block = (int(w.attributes[key]) for key in ("N", "K", "bits", "block_size"))
    bounded([out, columns])
    zeros, order, bias = w.inputs[3:6]
    if order or 8 % bits:
        raise UsageError(f"{title(w.node)}: {'with an order of its columns (g_idx)' if order else f'of {bits} bits'} is not implemented")
    blocks = -(-columns // block)
    scale = w.constant(2).astype(np.float32).reshape(out, blocks, 1)
    codes = _unpacked(w.constant(1), bits).reshape(out, blocks, block)
    middle: Any = 2 ** (bits - 1)
    if zeros:
        stored = w.constant(3)
        middle = _unpacked(stored.reshape(out, -1), bits)[:, :blocks] if stored.dtype == np.uint8 else stored.reshape(out, blocks)
        middle = middle[..., None].astype(np.float32)
    weight = ((codes - middle) * scale).reshape(out, -1)[:, :columns]
    product = w.add("MatMul", w.inputs[0], w.store(np.ascontiguousarray(weight.T, np.float32)))
    if bias:
        w.add("Add", product, bias)


def _unpacked(packed: np.ndarray, bits: int) -> np.ndarray:
    """The codes in the bytes of the last axis, as float32."""
    parts = [(packed >> shift) & (2**bits - 1) for shift in range(0, 8, bits)]
    return np.stack(parts, -1).reshape(*packed.shape[:-1], -1).astype(np.float32)


def fused_conv(w: Writer) -> None:
    """FusedConv: a convolution, plus a fourth input, then an activation."""
    kind, parameters = w.attributes.pop("activation", b""), w.attributes.pop("activation_params", [])
    value = w.add("Conv", *w.inputs[:3], **w.attributes)
    if w.inputs[3]:
        value = w.add("Add", value, w.inputs[3])
    w.activate(value, kind.decode(), parameters)


def fused_gemm(w: Writer) -> None:
    """FusedGemm: a Gemm, then an activation."""
    kind = w.attributes.pop("activation", b"")
    names = [f"activation_{name}" for name in ("alpha", "beta", "gamma")]
    parameters = [w.attributes.pop(name) for name in names if name in w.attributes]
    w.activate(w.add("Gemm", *w.inputs[:3], **w.attributes), kind.decode(), parameters)


def fused_matmul(w: Writer) -> None:
    """FusedMatMul: alpha A B, the last two axes of either factor swapped."""
    if w.attributes.get("transBatchA") or w.attributes.get("transBatchB"):
        raise UsageError(f"{title(w.node)}: with axes of the batch moved is not implemented")
    sides = [
        w.add("Einsum", name, equation="...ij->...ji") if w.attributes.get(key) else name
        for key, name in zip(("transA", "transB"), w.inputs, strict=False)
    ]
    w.add("Mul", w.add("MatMul", *sides), w.store(np.array(w.attributes.get("alpha", 1.0), np.float32)))


def skip_layer_norm(w: Writer) -> None:
    """SkipLayerNormalization of the sum of its first two inputs and the fifth; its fourth output is that sum."""
    first, second, scale, shift, bias = w.inputs[:5]
    total = w.add("Add", first, second)
    if bias:
        total = w.add("Add", total, bias)
    if len(w.node.output) > 3 and w.node.output[3]:
        total = w.nodes[-1].output[0] = w.node.output[3]
    w.add("LayerNormalization", total, scale, shift, axis=-1, **w.attributes)


def biased_gelu(approximate: str) -> Rule:
    """BiasGelu and FastGelu: Gelu of x plus a bias, which may be absent."""

    def rule(w: Writer) -> None:
        value = w.add("Add", *w.inputs[:2]) if w.inputs[1] else w.inputs[0]
        w.add("Gelu", value, approximate=approximate)

    return rule


def same(kind: str, **fixed: Any) -> Rule:
    """An operator that the standard has under that name."""
    return lambda w: w.add(kind, *w.inputs, **{**fixed, **w.attributes})


RULES: dict[str, Rule] = {
    # integers
    "QLinearConv": q_conv,
    "QLinearMatMul": q_matmul,
    "QGemm": q_gemm,
    "QLinearAdd": q_binary("Add"),
    "QLinearMul": q_binary("Mul"),
    "QLinearAveragePool": q_unary("AveragePool"),
    "QLinearGlobalAveragePool": q_unary("GlobalAveragePool"),
    "QLinearLeakyRelu": q_unary("LeakyRelu"),
    "QLinearSigmoid": q_unary("Sigmoid"),
    "QLinearSoftmax": q_softmax,
    "QLinearConcat": q_concat,
    "QuantizeLinear": same("QuantizeLinear"),
    "DequantizeLinear": same("DequantizeLinear"),
    "MatMulIntegerToFloat": integers_to_float,
    "DynamicQuantizeMatMul": dynamic_matmul,
    "MatMulNBits": n_bits_matmul,
    # floats
    "FusedConv": fused_conv,
    "FusedGemm": fused_gemm,
    "FusedMatMul": fused_matmul,
    "Gelu": same("Gelu"),
    "QuickGelu": same("Swish", alpha=1.702),
    "FastGelu": biased_gelu("tanh"),
    "BiasGelu": biased_gelu("none"),
    "SkipLayerNormalization": skip_layer_norm,
}
OF_THE_STANDARD = {"QLinearConv", "QLinearMatMul"}  # of these operators
OWN_OPERATORS = frozenset(f"{OWN_DOMAIN}::{name}" for name in RULES)


def expanded(model: ModelProto, place: str) -> None:
    """Write out the operators of the table in `model`, which is changed; others stay.

    Args:
        model: with its weights inside.
        place: the file, for errors.

    Raises:
        UsageError: a form of an operator that is not implemented; names the node.
    """
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    nodes, added = list[NodeProto](), list[TensorProto]()
    for node in graph.node:
        if node.op_type in RULES and (node.domain == OWN_DOMAIN or node.op_type in OF_THE_STANDARD):
            writer = _written_out(Writer(node, stored), place, sum(prod(tensor.dims) for tensor in added))
            nodes += writer.nodes
            added += writer.added
        else:
            nodes.append(node)
    kept = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    graph.initializer.extend(added)


def _written_out(writer: Writer, place: str, before: int) -> Writer:
    """Writes a node out; `before`: numbers that the nodes before it have stored."""
    node = writer.node
    if writer.attributes.pop("channels_last", 0):
        raise refusal(node, place, "with channels_last = 1", "channels_last", "expected channels first")
    try:
        RULES[node.op_type](writer)
        bounded([before + sum(prod(tensor.dims) for tensor in writer.added)])
    except (UsageError, NotImplementedError, LookupError, ValueError, TypeError, ArithmeticError, AttributeError) as error:
        raise UsageError(f"{place}: cannot write out {title(node)}: {first_line(error)}") from error
    writer.nodes[-1].output[0] = node.output[0]
    return writer
