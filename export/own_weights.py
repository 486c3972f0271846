"""Stored bytes as onnxruntime (1.32) needs them to multiply exactly: there it writes every signed weight anew, as an unsigned one."""

from __future__ import annotations

from collections import Counter

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

CODES, SCALE, ZERO_POINT = 0, 1, 2  # inputs of DequantizeLinear


def with_own_weights(model: ModelProto) -> ModelProto:
    """The model, changed in place where `own_weights` changes its graph."""
    own_weights(model.graph)
    return model


def own_weights(graph: GraphProto) -> bool:
    """Give every operator that reads signed weights a DequantizeLinear, codes and a zero point of its own. No answer changes.

    Of those that operators share, as where layers are tied or a tool merged what is equal, onnxruntime would store the unsigned form twice
    under one name, and fails on that.

    Returns:
        Whether there was anything to do.
    """
    stored, before = _stored(graph), len(graph.initializer)
    copies = _for_each_reader(graph, {node.output[0]: node for node in _signed(graph, stored)})
    nodes = [each for node in graph.node for each in (node, *(copies.get(node.output[0], ()) if node.output else ()))]
    del graph.node[:]
    graph.node.extend(nodes)
    seen = Counter[str]()
    for node in _signed(graph, stored):
        for place in (CODES, ZERO_POINT):
            if place < len(node.input) and node.input[place] in stored:
                node.input[place] = _own(graph, stored[node.input[place]], seen)
    return len(graph.initializer) > before


def _stored(graph: GraphProto) -> dict[str, TensorProto]:
    return {tensor.name: tensor for tensor in graph.initializer}


def _signed(graph: GraphProto, stored: dict[str, TensorProto]) -> list[NodeProto]:
    """The DequantizeLinear nodes of stored tensors of signed bytes."""
    nodes = (node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[CODES] in stored)
    return [node for node in nodes if stored[node.input[CODES]].data_type == TensorProto.INT8]


def _for_each_reader(graph: GraphProto, signed: dict[str, NodeProto]) -> dict[str, list[NodeProto]]:
    """Let every reader of `signed`, by their outputs, but the first read a copy: the copies by the output of what they are copies of."""
    copies: dict[str, list[NodeProto]] = {}
    read = set[str]()
    for node in graph.node:
        for place, key in enumerate(node.input):
            if key in read:
                copy = NodeProto()
                copy.CopyFrom(signed[key])
                number = len(copies.setdefault(key, [])) + 1
                copy.name, copy.output[0] = f"{copy.name}/own{number}", f"{key}/own{number}"
                copies[key].append(copy)
                node.input[place] = copy.output[0]
            elif key in signed:
                read.add(key)
    return copies


def _own(graph: GraphProto, tensor: TensorProto, seen: Counter[str]) -> str:
    """The name of a stored tensor where it is asked for the first time, then those of copies."""
    seen[tensor.name] += 1
    if seen[tensor.name] == 1:
        return tensor.name
    name = f"{tensor.name}/own{seen[tensor.name] - 1}"
    copy = graph.initializer.add()
    copy.CopyFrom(tensor)
    copy.name = name
    return name


def own_zero_points(graph: GraphProto) -> bool:
    """Give every stored tensor of signed bytes that has a scale per channel and no zero point one, 0: onnxruntime would give it one for all
    channels, and then fails on it.

    Returns:
        Whether there was one.
    """
    stored = _stored(graph)
    lacking = [
        node
        for node in _signed(graph, stored)
        if len(node.input) <= ZERO_POINT or not node.input[ZERO_POINT]
        if node.input[SCALE] in stored and len(stored[node.input[SCALE]].dims) == 1
    ]
    for node in lacking:
        zeros = np.zeros(tuple(stored[node.input[SCALE]].dims), np.int8)
        graph.initializer.append(numpy_helper.from_array(zeros, f"{node.output[0]}/zero_point"))
        node.input[:] = [*node.input[:ZERO_POINT], graph.initializer[-1].name]
    return bool(lacking)
