"""Whether a file is ONNX at all. Runtimes take some files that are not, and guess; NVIDIA's parser refuses most of them."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import ModelProto, NodeProto
from onnx.defs import OpSchema

from export.checked import STANDARD_DOMAINS
from export.lint.finding import Rule, Severity
from export.lint.graph import Graph, Shape, argument, attribute, label, schema
from export.session import first_line

BATCH = 2


def valid(graph: Graph) -> Iterator[tuple[str, str]]:
    """What ONNX's checker says, and its shape inference for a batch of two. Operator sets that the installed onnx lacks are not judged."""
    if any(entry.version > onnx.defs.onnx_opset_version() for entry in graph.model.opset_import if entry.domain in STANDARD_DOMAINS):
        return
    yield from _missing_inputs(graph)
    yield from _unlike_sizes(graph)
    try:
        onnx.checker.check_model(graph.light, full_check=True)
        onnx.shape_inference.infer_shapes(_with_batch(graph.light), check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # noqa: BLE001 - the checker's, inference's, or protobuf's for a graph nested too deep
        yield "", f"ONNX's checker says: {first_line(error).rstrip('.')}."


def _missing_inputs(graph: Graph) -> Iterator[tuple[str, str]]:
    """Inputs that an operator needs and that are left empty, which the checker does not see."""
    for node in graph.nodes:
        if node.domain in STANDARD_DOMAINS and "" in node.input:
            known = schema(node, graph.opset)
            formal = known.inputs if known is not None else ()
            for place, name in enumerate(node.input):
                kind = formal[min(place, len(formal) - 1)].option if formal else OpSchema.FormalParameterOption.Optional
                if not name and kind != OpSchema.FormalParameterOption.Optional:
                    yield label(node), f"{node.op_type} needs its input {place}, which is empty."


def _unlike_sizes(graph: Graph) -> Iterator[tuple[str, str]]:
    """Weights that do not fit what they are applied to, which inference does not compare."""
    for node in graph.of_type(*_FITS):
        shapes = [graph.shape(name) for name in node.input]
        made = graph.shape(node.output[0]) if node.output else None
        if len(shapes) > 1 and not _FITS[node.op_type](node, shapes, made):
            yield label(node), f"{node.op_type} of shapes {', '.join(str(shape) for shape in shapes)}: they do not fit together."


def _conv_fits(node: NodeProto, shapes: list[Shape | None], _: Shape | None) -> bool:
    data, weight, bias = (*shapes, None)[:3]
    if data is None or weight is None:
        return True
    if len(data) != len(weight) or len(data) < 3 or (bias is not None and not _equal(bias, weight[:1])):
        return False
    return not isinstance(weight[1], int) or _equal((weight[1] * attribute(node, "group", 1),), data[1:2])


def _norm_fits(_: NodeProto, shapes: list[Shape | None], __: Shape | None) -> bool:
    data = shapes[0]
    return data is None or all(shape is None or _equal(shape, data[1:2]) for shape in shapes[1:])


def _pad_fits(node: NodeProto, shapes: list[Shape | None], _: Shape | None) -> bool:
    data, pads = shapes[:2]
    return data is None or pads is None or bool(argument(node, 3)) or _equal(pads, (2 * len(data),))


def _gemm_fits(_: NodeProto, shapes: list[Shape | None], made: Shape | None) -> bool:
    bias = shapes[2] if len(shapes) > 2 else None
    return not bias or made is None or _equal(bias[-1:], (1,)) or _equal(bias[-1:], made[-1:])


_FITS = {"Conv": _conv_fits, "BatchNormalization": _norm_fits, "Pad": _pad_fits, "Gemm": _gemm_fits}


def _equal(one: Shape, other: Shape) -> bool:
    """Whether two shapes can be the same: unknown and named sizes can."""
    known = (pair for pair in zip(one, other, strict=False) if all(isinstance(size, int) for size in pair))
    return len(one) == len(other) and all(left == right for left, right in known)


def _with_batch(light: ModelProto) -> ModelProto:
    """A copy whose first dimension is fixed, so that inference can follow every shape."""
    fixed = ModelProto()
    fixed.CopyFrom(light)
    for value in fixed.graph.input:
        shape = value.type.tensor_type.shape
        if shape.dim and not shape.dim[0].HasField("dim_value"):
            shape.dim[0].dim_value = BATCH
    del fixed.graph.value_info[:]
    return fixed


def rule(identifier: str) -> Rule:
    """The rule, under a runtime's own id. Last in its table: its words are those of any file that does not fit together."""
    words = (
        "invalid node", "misalign", "conformable", "broadcast", "shape error", "input was not registered", "duplicate tensor name",
        "bias weights", "gemm", "must be in the range", "number of spatial dimensions", "must be (c, )", "expects two input",
    )  # fmt: skip
    return Rule(identifier, Severity.ERROR, "the file is valid ONNX", "Export it again; do not mend it by hand.", valid, words=words)
