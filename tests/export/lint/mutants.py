"""Random changes of a graph, as a broken exporter, a hand edit or another tool would make them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

OPERATORS = sorted({schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""})
TYPES = [TensorProto.DOUBLE, TensorProto.INT16, TensorProto.UINT8, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.UINT32]
Random = np.random.Generator


def any_node(model: ModelProto, rng: Random) -> onnx.NodeProto:
    return model.graph.node[int(rng.integers(len(model.graph.node)))]


def rename_operator(model: ModelProto, rng: Random) -> None:
    any_node(model, rng).op_type = OPERATORS[int(rng.integers(len(OPERATORS)))]


def rename_domain(model: ModelProto, rng: Random) -> None:
    any_node(model, rng).domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))


def drop_node(model: ModelProto, rng: Random) -> None:
    del model.graph.node[int(rng.integers(len(model.graph.node)))]


def drop_input(model: ModelProto, rng: Random) -> None:
    node = any_node(model, rng)
    if node.input:
        del node.input[int(rng.integers(len(node.input)))]


def swap_inputs(model: ModelProto, rng: Random) -> None:
    node = any_node(model, rng)
    node.input[:] = list(node.input)[::-1]


def empty_input(model: ModelProto, rng: Random) -> None:
    node = any_node(model, rng)
    if node.input:
        node.input[int(rng.integers(len(node.input)))] = ""


def drop_attribute(model: ModelProto, rng: Random) -> None:
    node = any_node(model, rng)
    if node.attribute:
        del node.attribute[int(rng.integers(len(node.attribute)))]


def change_attribute(model: ModelProto, rng: Random) -> None:
    node = any_node(model, rng)
    for attribute in node.attribute:
        attribute.i = int(rng.integers(-3, 40)) if attribute.HasField("i") else 0
        attribute.ints[:] = [int(rng.integers(-3, 5)) for _ in attribute.ints]
        attribute.f = float(rng.normal()) if attribute.HasField("f") else 0.0


def retype_weight(model: ModelProto, rng: Random) -> None:
    tensors = model.graph.initializer
    if tensors:
        tensor = tensors[int(rng.integers(len(tensors)))]
        value = np.nan_to_num(numpy_helper.to_array(tensor).astype(np.float64)).clip(0, 100)
        kind = TYPES[int(rng.integers(len(TYPES)))]
        tensor.CopyFrom(numpy_helper.from_array(value.astype(helper.tensor_dtype_to_np_dtype(kind)), tensor.name))


def cut_weight(model: ModelProto, rng: Random) -> None:
    tensors = model.graph.initializer
    if tensors:
        tensor = tensors[int(rng.integers(len(tensors)))]
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(tensor).reshape(-1)[:-1]), tensor.name))


def negate_weight(model: ModelProto, rng: Random) -> None:
    """Also scales and zero points of a quantized file."""
    tensors = [tensor for tensor in model.graph.initializer if not tensor.dims or tensor.name.endswith(("scale", "zero_point"))]
    if tensors:
        tensor = tensors[int(rng.integers(len(tensors)))]
        value = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(-1 - value if value.dtype.kind == "f" else ~value), tensor.name))


def weight_to_input(model: ModelProto, rng: Random) -> None:
    tensors = model.graph.initializer
    if tensors:
        place = int(rng.integers(len(tensors)))
        tensor = tensors[place]
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
        del tensors[place]


def retype_input(model: ModelProto, rng: Random) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TYPES[int(rng.integers(len(TYPES)))]


def free_dimension(model: ModelProto, rng: Random) -> None:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    if dims:
        dims[int(rng.integers(len(dims)))].Clear()


def change_opset(model: ModelProto, rng: Random) -> None:
    model.opset_import[0].version = int(rng.integers(1, 30))


def change_ir(model: ModelProto, rng: Random) -> None:
    model.ir_version = int(rng.integers(1, 20))


MUTATIONS: list[Callable[[ModelProto, Random], None]] = [
    rename_operator, rename_domain, drop_node, drop_input, swap_inputs, empty_input, drop_attribute, change_attribute, retype_weight,
    cut_weight, negate_weight, weight_to_input, retype_input, free_dimension, change_opset, change_ir,
]  # fmt: skip


def mutant(model: ModelProto, seed: int) -> ModelProto:
    """A copy with one random change; the kinds of change take turns over the seeds."""
    changed, rng = ModelProto(), np.random.default_rng(seed)
    changed.CopyFrom(model)
    MUTATIONS[seed % len(MUTATIONS)](changed, rng)
    return changed
