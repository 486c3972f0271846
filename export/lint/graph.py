"""A graph as the rules see it: who makes and who reads a tensor, its type and shape, its value where it is stored."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper
from onnx.defs import OpSchema, SchemaError, get_schema

from export.checked import STANDARD_DOMAINS, all_nodes, store_integers, subgraphs
from export.errors import ExportError
from export.lint.stored import read_external
from export.quiet import quiet
from export.session import open_session

Shape = tuple[int | str | None, ...]

SMALL = 1024  # elements; larger constants say nothing about shapes, and inference would copy them
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
UNFOLDED = frozenset({"Range", "RandomNormal", "RandomUniform", "Multinomial", "Bernoulli", "RandomNormalLike", "RandomUniformLike"})
"""Operators whose result is not known before the first image, or that TensorRT's parser does not compute in advance."""

_CODE = re.compile(r"^\[ONNXRuntimeError\].*?failed: ?|/onnxruntime_src/.*?\) (?=[A-Z])")  # the frame of onnxruntime's messages

MAX_SEARCHED = 10_000  # tensors; what decides a shape is computed from fewer


class Graph:
    """One model.

    Attributes:
        model: as read, with local functions inlined; external tensors stay where they are.
        path: the file; external tensors lie in its folder.
        claims_sparsity: whether the file is said to be 2:4 sparse.
        exact_integers: whether the kernels that will run it are known to add integer products without saturation.
        nodes: every node, those of subgraphs too.
        stored: initialisers by name, those of subgraphs and `Constant` nodes too.
        makers: node by the name of each output.
        readers: nodes by the name of an input.
    """

    def __init__(self, model: ModelProto, path: Path, claims_sparsity: bool = False, exact_integers: bool = False) -> None:
        self.model, self.path, self.claims_sparsity, self.exact_integers = model, path, claims_sparsity, exact_integers
        self.nodes = list(all_nodes(model.graph))
        self.stored: dict[str, TensorProto] = {}
        for graph in all_graphs(model.graph):
            self.stored.update({tensor.name: tensor for tensor in graph.initializer})
        self.makers: dict[str, NodeProto] = {}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            self.makers.update(dict.fromkeys(filter(None, node.output), node))
            for name in dict.fromkeys(filter(None, node.input)):
                self.readers.setdefault(name, []).append(node)
            if node.op_type == "Constant" and (tensor := _constant(node)) is not None and node.output:
                self.stored[node.output[0]] = tensor

    @cached_property
    def inputs(self) -> list[ValueInfoProto]:
        """The inputs that are not initialisers."""
        return [value for value in self.model.graph.input if value.name not in self.stored]

    @cached_property
    def opset(self) -> int:
        """Version of the standard operators; 0 where the file names none."""
        return max((entry.version for entry in self.model.opset_import if entry.domain in STANDARD_DOMAINS), default=0)

    @cached_property
    def light(self) -> ModelProto:
        """The model without its large weights."""
        return _without_weights(self.model)

    @cached_property
    def values(self) -> dict[str, ValueInfoProto]:
        """Types and shapes by name: declared, or inferred where inference succeeds."""
        found = {}
        try:
            inferred = onnx.shape_inference.infer_shapes(self.light, data_prop=True).graph
        except Exception:  # noqa: BLE001 - inference gives up on graphs that runtimes take
            inferred = self.model.graph
        for graph in all_graphs(inferred):
            for value in (*graph.input, *graph.value_info, *graph.output):
                if value.type.HasField("tensor_type"):
                    found[value.name] = value
        return found

    @cached_property
    def refusal(self) -> str:
        """What the installed onnxruntime says when it does not load the file; empty where it does."""
        try:
            with quiet():
                open_session(str(self.path), optimise=False)
        except ExportError as error:
            reason = " ".join(str(error.__cause__ or error).split())
            return _CODE.sub("", reason)[:500].rstrip(". ") or str(error)
        return ""

    def type(self, name: str) -> int:
        """Element type (`TensorProto.DataType`), 0 where unknown."""
        if name in self.stored:
            return self.stored[name].data_type
        return self.values[name].type.tensor_type.elem_type if name in self.values else TensorProto.UNDEFINED

    def shape(self, name: str) -> Shape | None:
        """Sizes: a number, the name of a dynamic one, None where unknown. None instead of a tuple where the rank is unknown."""
        if name in self.stored:
            return tuple(self.stored[name].dims)
        return dims(self.values[name]) if name in self.values else None

    def value(self, name: str) -> NDArray[Any] | None:
        """The stored value of a tensor, None where it is computed or cannot be read. Reads an external file only for this tensor."""
        tensor = self.stored.get(name)
        if tensor is None:
            return None
        try:
            if tensor.data_location == TensorProto.EXTERNAL:
                return read_external(tensor, self.path.parent)
            return numpy_helper.to_array(tensor)
        except Exception:  # noqa: BLE001 - a damaged tensor has no value; the checker and the runtimes say more
            return None

    @cached_property
    def constants(self) -> set[str]:
        """Tensors known before the first image: stored, or computed from stored ones by operators that are folded."""
        found = {"", *self.stored}
        for node in self.nodes:  # in topological order, as ONNX demands; where a file is not, less is known
            if self._measures(node) or (node.op_type not in UNFOLDED and not _has_subgraph(node) and found.issuperset(node.input)):
                found.update(node.output)
        return found

    def constant(self, name: str) -> bool:
        """Whether a tensor is known before the first image, see `constants`."""
        return name in self.constants

    def fed_by(self, name: str) -> set[str]:
        """The inputs of the network whose values, not only sizes, a tensor is computed from."""
        fed = {value.name for value in self.inputs}
        todo, seen = [name], {name}
        while todo and len(seen) < MAX_SEARCHED:
            node = self.makers.get(todo.pop())
            if node is not None and node.op_type not in ("Shape", "Size"):
                todo += (read := _read(node) - seen)
                seen |= read
        return fed & seen

    def _measures(self, node: NodeProto) -> bool:
        """Whether a node only tells sizes that are fixed."""
        shape = self.shape(node.input[0]) if node.op_type in ("Shape", "Size") and node.input else None
        return shape is not None and all(isinstance(size, int) for size in shape)

    def of_type(self, *operators: str) -> Iterator[NodeProto]:
        """Every node of the given standard operators."""
        return (node for node in self.nodes if node.op_type in operators and node.domain in STANDARD_DOMAINS)


def all_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and every subgraph (If, Loop, Scan)."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node.attribute):
            yield from all_graphs(inner)


def label(node: NodeProto) -> str:
    """A node's name; of a nameless one, its operator and output."""
    return node.name or f"{node.op_type} -> {next(iter(node.output), '?')}"


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """An attribute's value, text as str; the default where it is absent or of an unknown kind."""
    for entry in node.attribute:
        if entry.name == name and entry.type != AttributeProto.UNDEFINED:
            value = onnx.helper.get_attribute_value(entry)
            return value.decode(errors="replace") if isinstance(value, bytes) else value
    return default


def argument(node: NodeProto, position: int) -> str:
    """The name of an input, empty where it is absent."""
    return node.input[position] if len(node.input) > position else ""


def dims(value: ValueInfoProto) -> Shape | None:
    """The sizes of a value: numbers, names or None; None instead of a tuple where the rank is unknown."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param if dim.HasField("dim_param") else None for dim in kind.shape.dim
    )


def schema(node: NodeProto, opset: int) -> OpSchema | None:
    """The definition of a standard operator in an operator set, None where there is none."""
    try:
        return get_schema(node.op_type, opset, "")
    except (SchemaError, TypeError, OverflowError):  # the last two for numbers that no operator set has
        return None


def _has_subgraph(node: NodeProto) -> bool:
    return next(subgraphs(node.attribute), None) is not None


def _read(node: NodeProto) -> set[str]:
    """What a node reads, inside its subgraphs too."""
    inner = (part for graph in subgraphs(node.attribute) for part in all_nodes(graph))
    return {name for part in (node, *inner) for name in part.input if name}


def _constant(node: NodeProto) -> TensorProto | None:
    """The tensor of a Constant node, None for text and sparse ones."""
    for entry in node.attribute:
        if entry.name == "value" and entry.HasField("t"):
            tensor: TensorProto = entry.t
            return tensor
        if entry.name in ("value_float", "value_floats"):
            return numpy_helper.from_array(np.array(onnx.helper.get_attribute_value(entry), np.float32))
        if entry.name in ("value_int", "value_ints"):
            return numpy_helper.from_array(np.array(onnx.helper.get_attribute_value(entry), np.int64))
    return None


def _without_weights(model: ModelProto) -> ModelProto:
    """A copy whose large weights are inputs of the same type and shape: small enough to check and to infer shapes on. Integers of old
    exporters are stored as the checker wants them."""
    light = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph, source = light.graph, model.graph
    graph.name = source.name or "graph"
    graph.node.extend(source.node)
    graph.input.extend(source.input)
    graph.output.extend(source.output)
    graph.value_info.extend(source.value_info)
    declared = {value.name for value in source.input}
    for tensor in source.initializer:
        if prod(tensor.dims) <= SMALL and tensor.data_location != TensorProto.EXTERNAL:
            graph.initializer.append(tensor)
        elif tensor.name not in declared:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    store_integers(light)
    return light
