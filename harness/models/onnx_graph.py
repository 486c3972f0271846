"""An ONNX graph as a differentiable PyTorch module: a classifier to attack, or an exported Q/DQ graph read back (the "STE twin").

Own code because no kept library does both: onnx2torch (1.5.15, its last, of 2024) has no QuantizeLinear and no operator set above 17.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper
from torch import Tensor, nn

from export.checked import load_checked
from export.errors import ExportError
from export.fp16 import has_half, widened
from harness.errors import UsageError
from harness.models.interpreter import GraphInterpreter
from harness.models.onnx_batch import check_free, with_stored_sizes
from harness.models.onnx_ends import with_float32_ends
from harness.models.onnx_expanded import OWN_OPERATORS, expanded
from harness.models.onnx_operators import OPERATORS
from harness.models.onnx_reader import Reader
from harness.models.onnx_support import title

IMAGE_CHANNELS = (1, 3, 4)
# Behind a softmax it is one still: scaled, shifted, moved, or a part of it, such as all classes but the background.
PASSING_ENDS = {
    "Identity", "Cast", "Mul", "Div", "Add", "Sub", "Neg", "Clip", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice",
    "Gather", "Split", "Concat", "QuantizeLinear", "DequantizeLinear",
}  # fmt: skip
# What to do about operators that are not read.
INSTEAD = {
    frozenset({"DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul"}): " It was quantized: take the file from before.",
    frozenset({"If", "Loop", "Scan"}): " A branch that is decided beforehand goes when onnxslim has simplified the file.",
}
OF_DEPLOYED = {"DynamicQuantizeLinear", "MatMulInteger"}  # operators that only a file which was quantized for a device has
OTHER_FLOATS = (TensorProto.BFLOAT16, TensorProto.DOUBLE)


class OnnxGraph(GraphInterpreter):
    """A graph of one image input and one output.

    Floating-point constants of more than one element are parameters (but the running statistics of a batch norm), all others
    buffers. Whatever depends on constants alone, dequantized weights included, is computed once, here; so is what an operator takes as
    numbers (`onnx_support.SIZE_INPUTS`).

    Args:
        model: checked, its weights inside (see `export.checked.load_checked`).
        name: of the file, for errors.
        free_batch: put a free batch in the place of the file's fixed one in the sizes it stores.

    Attributes:
        batch: the batch size that the file fixes; None where it leaves it open.
        input_shape: (channels, height, width) of the file; None for a size it leaves open.
        widened: see `read_onnx`.

    Raises:
        UsageError: operators that are not in the table (all listed), another operator set, not one input and one output, what of an
            operator is not implemented, or weights that are not finite.
    """

    def __init__(self, model: ModelProto, name: str = "the ONNX graph", *, free_batch: bool = False) -> None:
        graph = model.graph
        _check_operators(graph, name)
        source, shape = _input(graph, name)
        if len(graph.output) != 1:
            raise UsageError(
                f"{name} has {len(graph.output)} outputs ({', '.join(o.name for o in graph.output)}); expected one, the logits. To leave "
                f"the first: onnx.utils.extract_model(path, new, ['{source}'], ['{graph.output[0].name}'])."
            )
        _check_end(graph, name)
        reader = Reader(model, name, shape[0] if free_batch else None)
        steps = reader.steps()
        statistics = {node.input[i] for node in graph.node if node.op_type == "BatchNormalization" for i in (3, 4)}
        weights = {key: _weight(value, key in statistics) for key, value in reader.constants.items()}
        if graph.output[0].name in reader.constants:
            raise UsageError(f"{name} returns a constant; expected logits computed from the images")
        super().__init__(steps, weights, source, graph.output[0].name)
        self.batch, *self.input_shape = shape


def read_onnx(path: Path, asked: Sequence[int | None] = (None, None, None), *, deployed: bool = False) -> OnnxGraph:
    """Read an ONNX file into a module. Nothing of it is executed and no file is opened but its own weights' beside it.

    A file of a fixed batch is read with a free one (see `onnx_batch`), float16 images and logits with casts (see `onnx_ends`). What it
    computes in float16 or bfloat16 is computed in float32 (`widened` says so): the small gradients of a network that is sure vanish in
    half the bits.

    Args:
        asked: (channels, height, width) of the images, for what the file leaves open. A fixed batch cannot be freed without them.
        deployed: a file that runs on a device, not one to take a network from: its operators may be integer ones, and onnxruntime's own
            (see `onnx_expanded`).

    Raises:
        UsageError: the file is not a graph this can read; says why.
    """
    try:
        model = load_checked(path, OWN_OPERATORS if deployed else ())
        if deployed:
            expanded(model, str(path))
        else:
            _check_operators(model.graph, str(path), OPERATORS.keys() - OF_DEPLOYED)
        with_float32_ends(model)
        if half := has_half(model):
            model = widened(model)
        graph = OnnxGraph(model, str(path))
        if graph.batch is not None:
            free = OnnxGraph(with_stored_sizes(model), str(path), free_batch=True)
            shape = [own or other for own, other in zip(graph.input_shape, asked, strict=True)]
            graph = check_free(graph.eval(), free.eval(), graph.batch, shape, str(path))
        graph.widened = half
        return graph
    except ExportError as error:
        raise UsageError(str(error)) from error


def _check_operators(graph: GraphProto, name: str, known: Set[str] = OPERATORS.keys()) -> None:
    unknown = {node.op_type for node in graph.node if node.op_type not in known and node.domain in ("", "ai.onnx")}
    unknown |= {f"{node.domain}::{node.op_type}" for node in graph.node if node.domain not in ("", "ai.onnx")}
    if unknown:
        remedy = "".join(text for names, text in INSTEAD.items() if unknown & names)
        raise UsageError(
            f"{name} uses operators that cannot be read back: {', '.join(sorted(unknown))}.{remedy} Supported: {', '.join(sorted(known))}."
        )


def _input(graph: GraphProto, name: str) -> tuple[str, list[int | None]]:
    """(name, [n, c, h, w]) of the one input that has no initial value; None for a size left open."""
    stored = {tensor.name for tensor in graph.initializer}
    if graph.sparse_initializer:
        raise UsageError(f"{name} stores sparse tensors ('{graph.sparse_initializer[0].values.name}' …); expected dense ones")
    inputs = [value for value in graph.input if value.name not in stored]
    if len(inputs) != 1:
        raise UsageError(f"{name} has {len(inputs)} inputs ({', '.join(v.name for v in inputs)}); expected one, the images")
    kind = inputs[0].type.tensor_type
    shape = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
    if kind.elem_type != TensorProto.FLOAT or len(shape) != 4:
        got = helper.tensor_dtype_to_string(kind.elem_type)
        instead = "; of a network, save model.float()" if kind.elem_type in OTHER_FLOATS else ""
        if kind.elem_type == TensorProto.UINT8:
            instead = " in [0, 1]: export the network without what it does to bytes, or scale its floats by 255 where it casts them"
        raise UsageError(f"{name}: input '{inputs[0].name}' is {got} {shape}; expected FLOAT (n, channels, height, width){instead}")
    channels, _, width = shape[1:]
    if width in IMAGE_CHANNELS and (channels is None or channels > max(IMAGE_CHANNELS)):
        raise UsageError(
            f"{name}: input '{inputs[0].name}' is {shape}: channels last (n, height, width, channels), as TensorFlow has it; expected "
            f"channels first, (n, channels, height, width). Convert it again: python -m tf2onnx.convert … --inputs-as-nchw "
            f"{inputs[0].name}, or put a Transpose with perm = 0, 2, 3, 1 in front."
        )
    return inputs[0].name, shape


def _check_end(graph: GraphProto, name: str) -> None:
    """Refuse a graph that ends in probabilities, scaled ones too: where they are near 0 or 1 they have no gradient to attack with.

    Raises:
        UsageError: names the node, and the lines of Python that take it out.
    """
    images = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    made = dict[str, NodeProto]()  # what is computed from the images, and not from their sizes alone
    for node in graph.node:
        if node.op_type not in ("Shape", "Size") and any(key in made or key in images for key in node.input):
            made |= dict.fromkeys(node.output, node)
    end = made.get(graph.output[0].name)
    while end is not None and end.op_type in PASSING_ENDS:
        sources = {made[key].output[0]: made[key] for key in end.input if key in made}
        end = next(iter(sources.values())) if len(sources) == 1 else None  # of two factors one may be a gate
    if end is not None and end.op_type in ("Softmax", "Sigmoid"):
        raise UsageError(
            f"{name} ends in probabilities ({title(end)}); expected logits, whose gradients attacks need. Let it pass them on: "
            f"model = onnx.load(path); node = next(n for n in model.graph.node if '{end.output[0]}' in n.output); "
            "node.op_type = 'Identity'; node.ClearField('attribute'); onnx.save(model, new)."
        )


def _weight(value: Tensor, statistic: bool) -> Tensor:
    return nn.Parameter(value) if value.is_floating_point() and value.numel() > 1 and not statistic else value
