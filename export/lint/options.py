"""Options of known operators that TensorRT's parser does not take. Found on ONNX's own operator tests with TensorRT for RTX 1.7.1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from onnx import NodeProto, TensorProto

from export.lint.finding import Rule, Severity
from export.lint.graph import Graph, argument, attribute, label

_REDUCED = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


@dataclass(frozen=True)
class Limit:
    """One thing the parser does not take: of which operators, when, and its words for it."""

    operators: tuple[str, ...]
    broken: Callable[[Graph, NodeProto], bool]
    reason: str


def _attribute(name: str, *allowed: object) -> Callable[[Graph, NodeProto], bool]:
    """Broken where an attribute is given and has another value."""
    return lambda _, node: attribute(node, name, allowed[0]) not in allowed


def _outputs(_: Graph, node: NodeProto) -> bool:
    return sum(bool(name) for name in node.output) > 1


def _dilated(_: Graph, node: NodeProto) -> bool:
    return any(size != 1 for size in attribute(node, "dilations", ()))


def _other_types(*allowed: int) -> Callable[[Graph, NodeProto], bool]:
    """Broken where the first input has a known type that is not among these."""
    return lambda graph, node: graph.type(argument(node, 0)) not in (TensorProto.UNDEFINED, *allowed)


def _remainder(graph: Graph, node: NodeProto) -> bool:
    return not attribute(node, "fmod", 0) and _other_types(TensorProto.INT32, TensorProto.INT64)(graph, node)


def _ragged_split(graph: Graph, node: NodeProto) -> bool:
    """So many parts that the last would have a negative size, see onnx/onnx#5766."""
    parts, shape = attribute(node, "num_outputs", 0), graph.shape(argument(node, 0))
    size = shape[attribute(node, "axis", 0)] if shape and attribute(node, "axis", 0) < len(shape) else None
    return parts > 0 and isinstance(size, int) and -(-size // parts) * (parts - 1) > size


def _vector_times_batch(graph: Graph, node: NodeProto) -> bool:
    left, right = (graph.shape(argument(node, place)) for place in (0, 1))
    return left is not None and right is not None and len(left) == 1 and len(right) > 2


def _float_range(graph: Graph, node: NodeProto) -> bool:
    return graph.type(argument(node, 0)) in FLOATS and not all(graph.constant(name) for name in node.input)


def _float_count(graph: Graph, node: NodeProto) -> bool:
    """A number of turns that comes from a floating point input."""
    return any(graph.type(name) in FLOATS for name in graph.fed_by(argument(node, 0)))


def _unlike_heads(graph: Graph, node: NodeProto) -> bool:
    key, value = (graph.shape(argument(node, place)) for place in (1, 2))
    return bool(key and value) and key != value


def _partial_axes(graph: Graph, node: NodeProto) -> bool:
    axes, rank = attribute(node, "axes", ()), len(graph.shape(argument(node, 0)) or ())
    return bool(axes and argument(node, 2)) and list(axes) != list(range(rank))


def _other_rank(rank: int) -> Callable[[Graph, NodeProto], bool]:
    return lambda graph, node: len(graph.shape(argument(node, 0)) or (0,) * rank) != rank


def _empty_end(_: Graph, node: NodeProto) -> bool:
    return bool(node.input) and not node.input[-1]


LIMITS = (
    Limit(("Attention", "LayerNormalization", "MaxPool"), _outputs, "more than one output is used"),
    Limit(("Attention",), _attribute("softcap", 0.0), "softcap is not 0"),
    Limit(("Attention",), _attribute("softmax_precision", None), "softmax_precision is set"),
    Limit(("Attention",), lambda _, node: bool(attribute(node, "is_causal", 0) and argument(node, 3)), "a mask and is_causal together"),
    Limit(("Attention",), _unlike_heads, "key and value have different shapes"),
    Limit(("Attention",), lambda _, node: bool(argument(node, 3) and argument(node, 6)), "a mask and padded keys together"),
    Limit(("AveragePool", "LpPool", "MaxPool"), _dilated, "dilations other than 1"),
    Limit(("LpPool",), _attribute("p", 2, 1), "p other than 1 and 2"),
    Limit(("BatchNormalization",), _attribute("training_mode", 0), "training_mode: it was exported while training"),
    Limit(("Mod",), _remainder, "fmod is 0 and the inputs are neither int32 nor int64"),
    Limit(("Resize",), _attribute("antialias", 0), "antialiasing"),
    Limit(("Resize",), _attribute("keep_aspect_ratio_policy", "stretch"), "keep_aspect_ratio_policy other than stretch"),
    Limit(
        ("Resize",),
        lambda _, node: attribute(node, "coordinate_transformation_mode", "half_pixel") in ("tf_crop_and_resize", "half_pixel_symmetric"),
        "coordinate_transformation_mode tf_crop_and_resize or half_pixel_symmetric",
    ),
    Limit(("Resize",), _partial_axes, "scales along some of the axes only"),
    Limit(("ScatterND", "ScatterElements"), _attribute("reduction", "none"), "a reduction"),
    Limit(("TensorScatter",), _attribute("mode", "linear"), "mode other than linear"),
    Limit(("TensorScatter",), _other_rank(4), "a cache that is not four-dimensional"),
    Limit(("Celu",), _other_types(TensorProto.FLOAT, TensorProto.DOUBLE), "values other than float32"),
    Limit(("Clip",), _other_types(*FLOATS, TensorProto.INT32, TensorProto.INT64), "values other than float, int32 and int64"),
    Limit(("Range",), _other_types(TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.INT64), "half precision values"),
    Limit(("Range",), _float_range, "floating point bounds that are not stored"),
    Limit(("Loop",), _float_count, "a number of turns that comes from a floating point input"),
    Limit(("RandomUniformLike",), _attribute("dtype", TensorProto.FLOAT, TensorProto.FLOAT16), "values other than float32 and float16"),
    Limit(("MatMul",), _vector_times_batch, "a vector times a batch of matrices"),
    Limit(
        ("Conv", "Gemm", "QuantizeLinear", "DequantizeLinear", "Squeeze", "Slice", "Split", "Dropout"), _empty_end,
        "an empty name for an optional last input",
    ),
    Limit(("Split",), _ragged_split, "num_outputs leaves the last part a negative size"),
)  # fmt: skip

CONSTANT: dict[str, tuple[int, ...]] = {
    **{f"Reduce{name}": (1,) for name in _REDUCED},
    "Squeeze": (1,), "Unsqueeze": (1,), "Dropout": (2,), "STFT": (1, 3), "OneHot": (1,), "Resize": (2,), "Upsample": (1,),
}  # fmt: skip
"""Operator -> inputs that must not depend on what the network is fed."""


def limits(graph: Graph) -> Iterator[tuple[str, str]]:
    """Known operators with an option that is not taken."""
    for limit in LIMITS:
        for node in graph.of_type(*limit.operators):
            if limit.broken(graph, node):
                yield label(node), f"{node.op_type}: {limit.reason}, which TensorRT does not take."


def constants(graph: Graph) -> Iterator[tuple[str, str]]:
    """Axes, scales and the like that are inputs of the network, or computed from one."""
    for node in graph.of_type(*CONSTANT):
        for place in CONSTANT[node.op_type]:
            name = argument(node, place)
            if name and not graph.constant(name):
                yield label(node), f"{node.op_type}: its input {place} ('{name}') is not stored in the file."


def bytes_inside(graph: Graph) -> Iterator[tuple[str, str]]:
    """UINT8 values that are computed with: TensorRT has UINT8 at inputs and outputs only, beside a Cast."""
    for node in graph.nodes:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue  # TRT002
        made = [name for name in node.output if graph.type(name) == TensorProto.UINT8]
        read = [name for name in node.input if name and graph.type(name) == TensorProto.UINT8]
        if (read and node.op_type != "Cast") or any(name in graph.readers for name in made):
            yield label(node), f"{node.op_type} computes with UINT8 ('{(read or made)[0]}')."


RULES = (
    Rule(
        "TRT055", Severity.ERROR, "axes and scales are stored", "Make it a constant of the model.", constants, refused=True,
        words=("build-time constant", "must be an initializer", "as an initializer", "is not a constant", "is a shape tensor"),
    ),
    Rule(
        "TRT056", Severity.ERROR, "UINT8 only at inputs and outputs", "Cast to float or int32 first.", bytes_inside, refused=True,
        words=("has type uint8 but", "elementwiseoperation", "legaluint8"),
    ),
    Rule(
        "TRT054", Severity.ERROR, "options of operators are those of TensorRT", "Export the model without it.", limits, refused=True,
        words=(
            "is not supported", "not supported currently", "does not support", "doesn't support mode", "only supports attention",
            "is supported", "are supported", "fmod attribute", "unsupported reduction", "iattention", "attentioninput",
            "chunk size is negative", "past_cache", "only linear mode", "rank of operands", "randomuniform",
        ),
    ),
)  # fmt: skip
