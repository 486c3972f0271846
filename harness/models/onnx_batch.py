"""A file of a fixed batch, as exporters write by default, read with a free one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import nn

from harness.errors import UsageError
from harness.models.onnx_sizes import Size
from harness.models.onnx_support import KEPT
from harness.models.probe import DYNAMIC, TOLERANCE

MAX_BATCH = 64  # to try it with
Network = TypeVar("Network", bound=nn.Module)


def freed(operator: str, place: int, size: Size, batch: int) -> Size:
    """A stored size with the free batch in the place of the fixed one, as far as one can tell; `check_free` decides.

    Args:
        operator, place: whose input it is.
        size: as stored.
        batch: of the file.
    """
    if size.ndim != 1 or not size.size or size[0] <= 0 or size[0] % batch:
        return size
    if operator == "Reshape" and -1 not in size.tolist():
        free = -1  # heads or windows may be part of that axis
    elif operator == "Reshape" and size[0] == batch:
        free = 0  # the input's own
    elif operator == "Resize" and place == 3 and size[0] == batch:
        free = KEPT
    else:
        return size
    size = size.copy()
    size[0] = free
    return size


def with_stored_sizes(model: ModelProto) -> ModelProto:
    """A copy of a graph whose sizes lie among its stored tensors, where `freed` finds them.

    PyTorch's legacy exporter writes them as Constant nodes. torch 2.14 writes a view whose strides it copies (of an average pool to 1x1)
    as a Gather of all numbers of a flattened tensor in their order: a Reshape takes its place.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    _store_constants(graph)
    stored = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims)}
    flat = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Reshape" and _sizes(stored, node) == [-1]}
    for node in graph.node:
        if node.op_type != "Gather" or node.input[0] not in flat or node.input[1] not in stored:
            continue
        places = numpy_helper.to_array(stored[node.input[1]])
        first_axis = all(helper.get_attribute_value(attribute) == 0 for attribute in node.attribute)
        if first_axis and np.array_equal(places.ravel(), np.arange(places.size)):
            name = f"{node.output[0]}/shape"
            graph.initializer.append(numpy_helper.from_array(np.array(places.shape, np.int64), name))
            node.CopyFrom(helper.make_node("Reshape", [flat[node.input[0]], name], node.output, node.name))
    return copy


def _store_constants(graph: GraphProto) -> None:
    """Constant nodes that hold a tensor become stored tensors."""
    others = list[NodeProto]()
    for node in graph.node:
        if node.op_type == "Constant" and [attribute.name for attribute in node.attribute] == ["value"]:
            tensor = graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
        else:
            others.append(node)
    del graph.node[:]
    graph.node.extend(others)


def _sizes(stored: dict[str, TensorProto], node: NodeProto) -> list[int]:
    """The stored sizes of a Reshape; none where they are computed."""
    return numpy_helper.to_array(stored[node.input[1]]).tolist() if len(node.input) > 1 and node.input[1] in stored else []


def without_size(name: str, shape: Sequence[int | None]) -> UsageError:
    """The error for a file of open sizes, (channels, height, width), None for each that nobody told."""
    return UsageError(f"{name} leaves its input size open ({'x'.join(str(size or '?') for size in shape)}); give --image-size")


def check_free(fixed: nn.Module, free: Network, batch: int, shape: Sequence[int | None], name: str) -> Network:
    """The network with a free batch, if for two batches at once it answers what the file's own graph answers for each.

    Args:
        fixed: the graph as it is, in eval mode.
        free: the same graph read with a free batch, in eval mode.
        batch, shape: of the file's input; shape is (channels, height, width), None for a size that is not known.
        name: of the file, for errors.

    Raises:
        UsageError: it does not; says how to export it again. Or a size is not known.
    """
    sizes = [size for size in shape if size is not None]
    if len(sizes) < len(shape):
        raise without_size(name, shape)
    if batch <= MAX_BATCH:
        images = torch.rand(2 * batch, *sizes, generator=torch.Generator().manual_seed(0))
        try:
            with torch.no_grad():
                expected = torch.cat([fixed(images[:batch]), fixed(images[batch:])])
                found = free(images)
        except (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError):
            found = expected = torch.zeros(0)
        bound = TOLERANCE * float(expected.abs().amax()) if expected.numel() else 0.0
        if expected.numel() and found.shape == expected.shape and float((found - expected).abs().max()) <= bound:
            return free
    raise UsageError(
        f"{name} takes batches of {batch} alone, and this is part of its graph (its sizes, or a class token).{DYNAMIC['onnx']}"
    )
