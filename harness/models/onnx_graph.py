"""An ONNX graph as a differentiable PyTorch module: a classifier to attack, or an exported Q/DQ graph read back (the "STE twin").

Own code because no kept library does both: onnx2torch (1.5.15, its last, of 2024) has no QuantizeLinear and no operator set above 17.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from export.checked import load_checked
from export.errors import ExportError
from export.fp16 import has_half, widened
from harness.errors import UsageError
from harness.models.interpreter import GraphInterpreter, Instruction, Ref
from harness.models.odd_signs import Call, odd_signs
from harness.models.onnx_batch import check_free, freed, with_stored_sizes
from harness.models.onnx_ends import with_float32_ends
from harness.models.onnx_expanded import OWN_OPERATORS, expanded
from harness.models.onnx_operators import OPERATORS
from harness.models.onnx_quantize import LIMITS, fake_quantize, quantize
from harness.models.onnx_sizes import MAX_SIZES, SIZE_OPERATORS, as_size, as_tensor, can_be_size, on_sizes
from harness.models.onnx_straight import STEPS, StepFunction, named_casts, straight_nodes
from harness.models.onnx_support import OPERATOR, OPSET, OUTPUTS, SEVERAL, SIZE_INPUTS, TENSORS_TOO, check_node, refusal, title
from harness.models.weights import refuse_non_finite

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
# Types of fewer than eight bits -> the type that holds their numbers.
FEW_BITS: dict[int, type[np.integer[Any]]] = {
    **dict.fromkeys((TensorProto.INT4, TensorProto.INT2), np.int8),
    **dict.fromkeys((TensorProto.UINT4, TensorProto.UINT2), np.uint8),
}
OTHER_FLOATS = (TensorProto.BFLOAT16, TensorProto.DOUBLE)
LOWEST = -3e38  # float32's own, as some exporters write it, or -infinity
MASKS = {"Add", "Attention", "Clip", "Max", "Min", "Pad", "Where"}  # may hold infinity on purpose: a bound, a mask before a softmax


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
        reader = _Reader(model, name, shape[0] if free_batch else None)
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


def to_torch(tensor: TensorProto, name: str) -> Tensor:
    """A stored tensor, as PyTorch's; integers of four and two bits as those of eight.

    Raises:
        UsageError: it is damaged or of a type PyTorch lacks.
    """
    try:
        values = np.array(numpy_helper.to_array(tensor))
        return torch.from_numpy(values.astype(FEW_BITS[tensor.data_type]) if tensor.data_type in FEW_BITS else values)
    except (ValueError, TypeError, KeyError, MemoryError) as error:
        kind = helper.tensor_dtype_to_string(tensor.data_type) if tensor.data_type in TensorProto.DataType.values() else tensor.data_type
        raise UsageError(f"{name}: cannot read tensor '{tensor.name}' of type {kind}: {error}") from error


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


class _Reader:
    """Turns nodes into steps.

    Every value is one of three: a constant (a tensor, computed here), a size (an array of Python numbers, made of the shapes of tensors
    when the network runs), or a tensor.
    """

    def __init__(self, model: ModelProto, name: str, batch: int | None) -> None:
        self.nodes, self.name, self.batch = named_casts(model.graph), name, batch
        self.opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        self.constants = {tensor.name: to_torch(tensor, name) for tensor in model.graph.initializer}
        self.sizes: set[str] = set()
        self.padded: dict[str, tuple[str, list[int]]] = {}
        self.read = {key for node in self.nodes for key in node.input} | {output.name for output in model.graph.output}
        self.quantized: dict[str, tuple[NodeProto, dict[str, Any]]] = {}  # by output: QuantizeLinear that waits for its DequantizeLinear
        self.clipped: dict[str, tuple[NodeProto, dict[str, Any]]] = {}  # by output: QuantizeLinear that waits for its Clip
        self.results = {output.name for output in model.graph.output}
        self.straight = straight_nodes(self.nodes, self.results)
        self.odd = odd_signs([Call(node.op_type.lower(), node.input, node.output[0]) for node in self.nodes if node.output])

    def steps(self) -> list[Instruction]:
        """The steps of all nodes that depend on the images; the others are computed, into `constants`."""
        return [step for node in self.nodes for step in self._steps(node)]

    def _steps(self, node: NodeProto) -> list[Instruction]:
        attributes = _attributes(node, self.name)
        stored = all(key in self.constants for key in node.input if key)
        # Weights may be standardised by their own statistics, which PyTorch writes as a batch norm that trains.
        unchecked = "training_mode" if stored and node.op_type == "BatchNormalization" else ""
        check_node(node, {key: value for key, value in attributes.items() if key != unchecked}, self.read, self.name)
        if node.op_type == "MaxPool" and node.input[0] in self.padded:
            node, attributes = self._with_pads(node, attributes)
        attributes = {OPERATOR: node.op_type, OPSET: self.opset, OUTPUTS: len(node.output), **attributes}
        self._check_constants(node)
        if stored:
            self._fold(node, attributes)
            return []
        if (amounts := self._pads_of_pools(node, attributes)) is not None:
            self.padded[node.output[0]] = node.input[0], amounts
            return []
        if node.op_type == "QuantizeLinear" and self._is_undone(node):
            self.quantized[node.output[0]] = node, attributes
            return []
        if node.input and node.input[0] in self.quantized:
            return [self._fake_quantize(node)]
        if node.op_type == "QuantizeLinear" and self._is_clipped(node):
            self.clipped[node.output[0]] = node, attributes
            return []
        if node.input and node.input[0] in self.clipped:
            return [self._quantize(node)]
        if self._is_size(node, attributes):
            self.sizes.add(node.output[0])
            return [
                Instruction(
                    partial(on_sizes, SIZE_OPERATORS[node.op_type], attributes), tuple(map(self._size, node.input)), {}, (node.output[0],)
                )
            ]
        if node.op_type in ("Shape", "Size"):
            self.sizes.add(node.output[0])
        lifted: list[Instruction] = []
        arguments = tuple(self._tensor(node, place, lifted) for place in range(len(node.input)))
        outputs = tuple(node.output) if node.op_type in SEVERAL else tuple(node.output)[:1]
        return [*lifted, Instruction(partial(self._function(node), attributes), arguments, {}, outputs)]

    def _pads_of_pools(self, node: NodeProto, attributes: dict[str, Any]) -> list[int] | None:
        """The spatial amounts (before, after) of a Pad with the lowest number, read by max pools alone: their own pads, written apart.

        As a Pad it would put that number in front of a quantizer, and eight bits cannot hold it beside any other.
        """
        if node.op_type != "Pad" or attributes.get("mode", "constant") != "constant" or len(node.input) > 3:
            return None
        stored = [self.constants.get(key) for key in node.input[1:]]
        amounts = attributes.get("pads") if not stored else None if stored[0] is None else stored[0].tolist()
        fill = attributes.get("value", 0.0) if len(stored) < 2 else 0.0 if stored[1] is None else float(stored[1])
        readers = [reader for reader in self.nodes if node.output[0] in reader.input]
        if amounts is None or fill > LOWEST or not all(_takes_pads(reader, amounts) for reader in readers):
            return None
        half = len(amounts) // 2
        return [*amounts[2:half], *amounts[half + 2 :]]

    def _is_undone(self, node: NodeProto) -> bool:
        """Whether DequantizeLinear alone reads a QuantizeLinear, with its own scale and zero point."""
        readers = [reader for reader in self.nodes if node.output[0] in reader.input]
        stored = all(key in self.constants for key in node.input[1:])
        same = (reader.op_type == "DequantizeLinear" and self._like(reader, node) for reader in readers)
        return stored and bool(readers) and node.output[0] not in self.results and all(same)

    def _like(self, reader: NodeProto, node: NodeProto) -> bool:
        """Whether the numbers of two nodes behind their first inputs are equal, and the axis that they are for."""
        mine, its = (_attributes(each, self.name).get("axis", 1) for each in (reader, node))
        pairs = [(self.constants.get(a), self.constants.get(b)) for a, b in zip_longest(reader.input[1:], node.input[1:], fillvalue="")]
        if any(a is None or b is None or a.shape != b.shape or not bool((a == b).all()) for a, b in pairs):
            return False
        return mine == its or all(a is not None and a.numel() == 1 for a, _ in pairs)

    def _fake_quantize(self, node: NodeProto) -> Instruction:
        """A DequantizeLinear and the QuantizeLinear before it."""
        before, attributes = self.quantized[node.input[0]]
        return Instruction(partial(fake_quantize, attributes), tuple(map(Ref, before.input)), {}, (node.output[0],))

    def _is_clipped(self, node: NodeProto) -> bool:
        """Whether a Clip with stored bounds alone reads a QuantizeLinear."""
        readers = [reader for reader in self.nodes if node.output[0] in reader.input]
        if len(readers) != 1 or readers[0].op_type != "Clip" or node.output[0] in self.results:
            return False
        return all(key in self.constants for key in (*node.input[1:], *readers[0].input[1:]) if key)

    def _quantize(self, node: NodeProto) -> Instruction:
        """A Clip of codes and the QuantizeLinear before it."""
        before, attributes = self.clipped[node.input[0]]
        low, high = (int(self.constants[key]) if key else None for key in (*node.input[1:], "", "")[:2])
        return Instruction(partial(quantize, {**attributes, LIMITS: (low, high)}), tuple(map(Ref, before.input)), {}, (node.output[0],))

    def _with_pads(self, node: NodeProto, attributes: dict[str, Any]) -> tuple[NodeProto, dict[str, Any]]:
        """The max pool behind such a Pad, on the Pad's own input."""
        source, amounts = self.padded[node.input[0]]
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[0] = source
        return copy, {**attributes, "pads": [a + b for a, b in zip(amounts, attributes.get("pads", [0] * len(amounts)), strict=True)]}

    def _function(self, node: NodeProto) -> Callable[..., Any]:
        if node.output[0] in self.odd:
            return lambda attributes, x: torch.sign(x)
        found: StepFunction = STEPS[node.op_type] if node.output[0] in self.straight else OPERATORS[node.op_type]
        return found

    def _is_size(self, node: NodeProto, attributes: dict[str, Any]) -> bool:
        """Whether a node computes sizes from sizes: of a stored tensor expanded to a computed shape the result is data."""
        numbers = SIZE_INPUTS.get(node.op_type, ())
        data = [key for place, key in enumerate(node.input) if key and (place not in numbers or node.op_type == "ConstantOfShape")]
        if not can_be_size(node.op_type, attributes) or not any(key in self.sizes for key in data):
            return False
        return all(key in self.sizes or self._is_short(key) for key in node.input if key)

    def _is_short(self, key: str) -> bool:
        """Whether a value is a constant of few enough numbers to be taken as sizes."""
        return key in self.constants and self.constants[key].numel() <= MAX_SIZES

    def _size(self, key: str) -> Any:
        """An input of an operator on sizes."""
        if not key:
            return None
        return as_size(self.constants[key]) if key in self.constants else Ref(key)

    def _tensor(self, node: NodeProto, place: int, lifted: list[Instruction]) -> Any:
        """An input of an operator on tensors: a number where the operator takes one, else a tensor (of a size: by a step of its own).

        Raises:
            UsageError: what must be a number is computed from the images.
        """
        key = node.input[place]
        if not key:
            return None
        if place in SIZE_INPUTS.get(node.op_type, ()):
            if key in self.sizes or self._is_short(key):
                size = self._size(key)
                return size if self.batch is None or isinstance(size, Ref) else freed(node.op_type, place, size, self.batch)
            if node.op_type not in TENSORS_TOO:
                what = "is computed from the images" if key not in self.constants else f"has {self.constants[key].numel():,} numbers"
                raise refusal(node, self.name, f"whose input '{key}' {what}", "input", f"expected constants, at most {MAX_SIZES}")
        if key not in self.sizes:
            return Ref(key)
        lifted.append(Instruction(as_tensor, (Ref(key),), {}, (f"{key}/{node.output[0]}",)))
        return Ref(f"{key}/{node.output[0]}")

    def _fold(self, node: NodeProto, attributes: dict[str, Any]) -> None:
        """Compute a node whose inputs are all constants.

        Raises:
            UsageError: it cannot be computed.
        """
        numbers = SIZE_INPUTS.get(node.op_type, ())
        inputs = [self.constants[key] if key else None for key in node.input]
        bound = [as_size(value) if value is not None and place in numbers else value for place, value in enumerate(inputs)]
        try:
            with torch.no_grad():
                result = OPERATORS[node.op_type](attributes, *bound)
        except (NotImplementedError, RuntimeError, ValueError, TypeError, IndexError, KeyError, ZeroDivisionError, MemoryError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UsageError(f"{self.name}: cannot compute {title(node)}: {reason}") from error
        results = result if node.op_type in SEVERAL else [result]
        for key, value in zip(node.output, results, strict=False):
            self.constants[key] = value if isinstance(value, Tensor) else as_tensor(value)

    def _check_constants(self, node: NodeProto) -> None:
        """Refuse weights that are not finite, and a dropout that drops."""
        for key in node.input:
            if key in self.constants:
                refuse_non_finite({key: self.constants[key]}, self.name, infinite=node.op_type in MASKS)
        if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
            training = self.constants.get(node.input[2])
            if training is None or bool(training):
                raise refusal(node, self.name, "with training_mode = true", "training_mode", "expected false")


def _takes_pads(node: NodeProto, amounts: list[int]) -> bool:
    """Whether a node is a max pool whose windows all hold a pixel of the image with these pads of (n, c, *space) too."""
    half = len(amounts) // 2
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type != "MaxPool" or attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or any(amounts[:2]) or any(amounts[half : half + 2]):
        return False
    kernel = list(attributes.get("kernel_shape", []))
    pads = list(attributes.get("pads", [0] * 2 * len(kernel)))
    spatial = [*amounts[2:half], *amounts[half + 2 :]]
    return len(spatial) == len(pads) and all(a >= 0 and a + b < k for a, b, k in zip(spatial, pads, kernel * 2, strict=True))


def _attributes(node: NodeProto, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if attribute.type == AttributeProto.TENSOR:
            value = to_torch(value, name)
        elif attribute.type == AttributeProto.STRING:
            value = value.decode(errors="replace")
        elif attribute.type in (AttributeProto.INTS, AttributeProto.FLOATS):
            value = list(value)
        found[attribute.name] = value
    return found


def _weight(value: Tensor, statistic: bool) -> Tensor:
    return nn.Parameter(value) if value.is_floating_point() and value.numel() > 1 and not statistic else value
