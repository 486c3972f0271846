"""Changes of ONNX files that deployments make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

Values = NDArray[Any]
Change = Callable[[ModelProto], None]


def rewritten(path: Path, change: Change) -> Path:
    """The file after `change`, beside it."""
    model = onnx.load(path)
    change(model)
    changed = path.with_name(f"{path.stem}-shipped.onnx")
    onnx.save(model, changed)
    return changed


def activation_scales(model: ModelProto) -> list[tuple[str, float]]:
    """Name and value of the scale of every activation, in the order of the graph; each once."""
    names = dict.fromkeys(node.input[1] for node in model.graph.node if node.op_type == "QuantizeLinear")
    return [(name, float(stored(model, name))) for name in names]


def multiply(model: ModelProto, name: str, factor: float) -> None:
    """Change a stored value, int32 biases whose scale follows from it too: they are left, as a wrong scale leaves them."""
    change(model, name, lambda values: np.asarray(values * factor, values.dtype))


def without_quantizers(model: ModelProto) -> ModelProto:
    """The float graph: every stored integer becomes the number that it stood for, every value behind a quantizer what was before it.

    A quantizer whose zero point is its lowest level cuts off what is negative, and does the work of a ReLU that the exporter took away.
    """
    graph = model.graph
    made = {name: node for node in graph.node for name in node.output}
    there = {tensor.name for tensor in graph.initializer}
    replaced: dict[str, str] = {}
    cuts: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "DequantizeLinear":
            continue
        if node.input[0] in there:
            values = dequantized(model, node)
            graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        else:
            quantizer = made[node.input[0]]
            replaced[node.output[0]] = quantizer.input[0]
            if not stored(model, quantizer.input[2]).any():
                replaced[node.output[0]] = f"{node.output[0]}_cut"
                cuts.append(onnx.helper.make_node("Relu", [quantizer.input[0]], [replaced[node.output[0]]], f"{node.name}_cut"))
    kept = [node for node in graph.node if node.op_type not in ("QuantizeLinear", "DequantizeLinear")] + cuts
    for node in kept:
        node.input[:] = [_before(name, replaced) for name in node.input]
    last = {_before(value.name, replaced): value.name for value in graph.output}
    for node in kept:
        node.output[:] = [last.get(name, name) for name in node.output]
        node.input[:] = [last.get(name, name) for name in node.input]
    del graph.node[:]
    graph.node.extend(_sorted(kept, {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}))
    return model


def _sorted(nodes: list[onnx.NodeProto], known: set[str]) -> list[onnx.NodeProto]:
    """The nodes so that each comes after those whose values it takes."""
    found: list[onnx.NodeProto] = []
    left = list(nodes)
    while left:
        ready = [node for node in left if known.issuperset(filter(None, node.input))]
        if not ready:
            raise ValueError(f"{len(left)} nodes take values that nothing makes, such as {left[0].input}")
        known |= {name for node in ready for name in node.output}
        found += ready
        left = [node for node in left if not any(node is one for one in ready)]
    return found


def with_weights_rounded(model: ModelProto) -> None:
    """Every float weight tensor moved by 1 % of its own entries."""
    draw = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim >= 2:
            moved = values * (1 + 0.01 * draw.standard_normal(values.shape))
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(moved, np.float32), tensor.name))


def with_zero_points_raised(model: ModelProto) -> None:
    """The zero points of all activations but the input's."""
    names = dict.fromkeys(node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear")
    for name in list(names)[1:]:
        change(model, name, lambda values: np.asarray(values + 1, values.dtype))


def with_weights_per_tensor(model: ModelProto) -> None:
    """Quantize the weights of convolutions anew with one scale each."""
    producers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type != "Conv" or (weight := producers[node.input[1]]).op_type != "DequantizeLinear":
            continue
        values = dequantized(model, weight)
        scale = np.full_like(stored(model, weight.input[1]), np.abs(values).max() / 127)
        integers = np.clip(np.rint(values / scale.reshape(-1, 1, 1, 1)), -127, 127).astype(np.int8)
        change(model, weight.input[0], lambda _, new=integers: new)  # type: ignore[misc]
        change(model, weight.input[1], lambda _, new=scale: new)  # type: ignore[misc]


def dequantized(model: ModelProto, node: onnx.NodeProto) -> NDArray[np.float32]:
    """What a DequantizeLinear makes of stored integers; its scales are of the whole tensor or of its first axis."""
    integers, scale = stored(model, node.input[0]), stored(model, node.input[1])
    zero = stored(model, node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros_like(scale)
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0) if scale.ndim and scale.size > 1 else 0
    shape = [1] * integers.ndim
    if scale.size > 1:
        shape[axis] = scale.size
    found = (integers.astype(np.float32) - np.float32(zero).reshape(shape)) * scale.reshape(shape)
    return np.asarray(found, np.float32)


def stored(model: ModelProto, name: str) -> Values:
    """A constant of the graph. Raises StopIteration: there is none of that name."""
    return numpy_helper.to_array(next(tensor for tensor in model.graph.initializer if tensor.name == name))


def change(model: ModelProto, name: str, to: Callable[[Values], Values]) -> None:
    """Put another value in the place of a constant."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(to(numpy_helper.to_array(tensor))), name))


def _before(name: str, replaced: dict[str, str]) -> str:
    while name in replaced:
        name = replaced[name]
    return name
