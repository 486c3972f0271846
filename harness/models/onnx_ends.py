"""The ends of an ONNX graph that takes images or gives logits in float16, as files deployed in half precision do."""

from __future__ import annotations

from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper


def with_float32_ends(model: ModelProto) -> bool:
    """Put a Cast before float16 images and behind float16 logits. Changes `model`, but nothing that it computes: its answers are those
    that it gives to whoever casts the images himself.

    Returns:
        Whether there was anything to cast.
    """
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    images = [value for value in graph.input if value.name not in stored and _is_half(value)]
    logits = [value for value in graph.output if _is_half(value)]
    nodes = [
        *(_cast(_outer(value.name), value.name, TensorProto.FLOAT16) for value in images),
        *graph.node,
        *(_cast(value.name, _outer(value.name), TensorProto.FLOAT) for value in logits),
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    for value in (*images, *logits):
        value.name = _outer(value.name)
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    return bool(images or logits)


def _is_half(value: ValueInfoProto) -> bool:
    return value.type.tensor_type.elem_type == TensorProto.FLOAT16


def _cast(source: str, target: str, to: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], to=to)


def _outer(name: str) -> str:
    return f"{name}_float32"
