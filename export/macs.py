"""Multiply-accumulates of a graph's convolutions and matrix products, counted on the shapes of one real run."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, ValueInfoProto, inliner

from export.checked import parse_onnx, refuse_external_data
from export.errors import ExportError
from export.session import first_line, open_session

# Operator -> the place of its weight among its inputs. The integer ones stand in files that were quantized elsewhere; so does MatMulNBits,
# onnxruntime's product with weights of four bits, which counts as float: it is no INT8 kernel.
WEIGHT = {
    "Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "Einsum": 1, "Attention": 1,
    "MatMulNBits": 1, "ConvInteger": 1, "MatMulInteger": 1, "QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3,
}  # fmt: skip


@dataclass(frozen=True)
class MacNode:
    """A convolution or matrix product: its node name, its multiply-accumulates for one image, the initialisers its weight comes from."""

    name: str
    macs: int
    weights: frozenset[str]


def macs(path: Path) -> int:
    """Multiply-accumulates for one image of every convolution and matrix product (those between two activations too).

    Raises:
        ExportError: the file cannot be read or run.
    """
    return sum(node.macs for node in mac_nodes(path))


def mac_nodes(path: Path) -> list[MacNode]:
    """The same, node by node, in graph order, those of local functions too. A graph may hold none.

    Reads standard operators, float or Q/DQ: an artefact, not onnxruntime's optimised graph.

    Raises:
        ExportError: the file cannot be read or run.
    """
    model = parse_onnx(path)
    try:
        if model.functions:
            model = inliner.inline_local_functions(model)
    except Exception as error:
        raise ExportError(f"cannot read {path}: {first_line(error)}") from error
    refuse_external_data(model, path.name)
    nodes = [node for node in model.graph.node if _counts(node)]
    if not nodes:
        return []
    shapes = _shapes(model, {name for node in nodes for name in _sides(node)})
    producers = {name: node for node in model.graph.node for name in node.output}
    return [MacNode(node.name, _count(node, shapes), _initialisers(node.input[WEIGHT[node.op_type]], model, producers)) for node in nodes]


def _counts(node: NodeProto) -> bool:
    """Whether it is a product: an Einsum of one input is none, and onnxruntime's own Attention has other inputs than the standard's."""
    known = node.op_type in WEIGHT and len(node.input) > WEIGHT[node.op_type]
    return known and not (node.op_type == "Attention" and node.domain == "com.microsoft")


def _sides(node: NodeProto) -> tuple[str, str, str]:
    """The names of its first input, its weight and its output."""
    return node.input[0], node.input[WEIGHT[node.op_type]], node.output[0]


def _count(node: NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    left, weight, out = (shapes[name] for name in _sides(node))
    if node.op_type == "ConvTranspose":
        return prod(left) * prod(weight[1:])  # weight is (in channels, out channels / groups, *kernel)
    if node.op_type == "Attention":
        return (prod(left) + prod(out)) * weight[-2]  # queries with keys, then their scores with values
    if node.op_type == "Einsum":
        return prod(out) * _summed(node, left, weight)
    if "Conv" in node.op_type:
        return prod(out) * prod(weight[1:])  # weight is (out channels, in channels / groups, *kernel)
    if "Gemm" in node.op_type:
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        return prod(out) * left[0 if transposed else 1]
    return prod(out) * left[-1]


def _summed(node: NodeProto, left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """Products that an Einsum of two inputs adds up for one number of its output: the sizes of the letters that it sums over."""
    equation = next(attribute.s.decode() for attribute in node.attribute if attribute.name == "equation").replace(" ", "")
    terms, arrow, result = equation.partition("->")
    letters = terms.replace(",", "").replace(".", "")
    kept = result if arrow else {letter for letter in letters if letters.count(letter) == 1}
    sizes: dict[str, int] = {}
    for term, shape in zip(terms.split(","), (left, right), strict=False):
        before, _, after = term.partition("...")
        sizes |= dict(zip(before, shape, strict=False)) | dict(zip(reversed(after), reversed(shape), strict=False))
    return prod(size for letter, size in sizes.items() if letter not in kept)


def _shapes(model: ModelProto, names: set[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of the named tensors for one image, seen by running the graph: exact where shape inference gives up."""
    found = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer if tensor.name in names}
    source = next(value for value in model.graph.input if value.name not in {tensor.name for tensor in model.graph.initializer})
    shape = (1, *(dim.dim_value or 1 for dim in source.type.tensor_type.shape.dim[1:]))
    wanted = sorted(names - found.keys() - {source.name})
    watched = ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(ValueInfoProto(name=name) for name in wanted)
    try:
        values = open_session(watched, optimise=False).run(wanted, {source.name: np.zeros(shape, np.float32)})
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(f"cannot run the graph to count its operations: {first_line(error)}") from error
    return {source.name: shape, **found, **{name: value.shape for name, value in zip(wanted, values, strict=True)}}


def _initialisers(name: str, model: ModelProto, producers: dict[str, NodeProto]) -> frozenset[str]:
    """Initialisers from which a weight is made by dequantizing, transposing or reshaping; empty for an activation."""
    stored = {tensor.name for tensor in model.graph.initializer}
    while name not in stored:
        node = producers.get(name)
        if node is None or node.op_type not in ("DequantizeLinear", "Transpose", "Reshape", "QuantizeLinear"):
            return frozenset()
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            return frozenset(part for part in node.input[:2] if part)  # the quantized weight and its scale
        name = node.input[0]
    return frozenset({name})
