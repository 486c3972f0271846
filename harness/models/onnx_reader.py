"""The nodes of an ONNX graph as steps of a `GraphInterpreter`: what is constant is computed, what are sizes becomes numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor

from harness.errors import UsageError
from harness.models.interpreter import Instruction, Ref
from harness.models.odd_signs import Call, odd_signs
from harness.models.onnx_batch import freed
from harness.models.onnx_operators import OPERATORS
from harness.models.onnx_quantize import LIMITS, fake_quantize, quantize
from harness.models.onnx_sizes import MAX_SIZES, SIZE_OPERATORS, as_size, as_tensor, can_be_size, on_sizes
from harness.models.onnx_straight import STEPS, StepFunction, named_casts, straight_nodes
from harness.models.onnx_support import OPERATOR, OPSET, OUTPUTS, SEVERAL, SIZE_INPUTS, TENSORS_TOO, check_node, refusal, title
from harness.models.weights import refuse_non_finite

# Types of fewer than eight bits -> the type that holds their numbers.
FEW_BITS: dict[int, type[np.integer[Any]]] = {
    **dict.fromkeys((TensorProto.INT4, TensorProto.INT2), np.int8),
    **dict.fromkeys((TensorProto.UINT4, TensorProto.UINT2), np.uint8),
}
LOWEST = -3e38  # float32's own, as some exporters write it, or -infinity
# May read infinity on purpose: a bound, a mask before a softmax.
MASKS = {
    "Add", "Attention", "Clip", "Equal", "Greater", "GreaterOrEqual", "IsInf", "Less", "LessOrEqual", "LogSoftmax", "Max", "Min", "Pad",
    "ReduceMax", "ReduceMin", "Softmax", "Where",
}  # fmt: skip
# Pass it on to who reads it.
MOVES = {
    "Cast", "CastLike", "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Trilu",
    "Unsqueeze",
}  # fmt: skip


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


class Reader:
    """Turns the nodes of a graph into steps.

    Every value is one of three: a constant (a tensor, computed here), a size (an array of Python numbers, made of the shapes of tensors
    when the network runs), or a tensor.
    """

    def __init__(self, model: ModelProto, name: str, batch: int | None) -> None:
        self.nodes, self.name, self.batch = named_casts(model.graph), name, batch
        self.opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        self.constants = {tensor.name: to_torch(tensor, name) for tensor in model.graph.initializer}
        self.narrow = {tensor.name for tensor in model.graph.initializer if tensor.data_type in FEW_BITS}
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
        attributes = attributes_of(node, self.name)
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
        mine, its = (attributes_of(each, self.name).get("axis", 1) for each in (reader, node))
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
        """Refuse weights that are not finite, activations of fewer than eight bits, and a dropout that drops."""
        for key in node.input:
            if key in self.constants:
                refuse_non_finite({key: self.constants[key]}, self.name, infinite=node.op_type in MASKS | MOVES)
        if node.op_type == "QuantizeLinear" and (few := self.narrow.intersection(node.input[2:])):
            raise refusal(node, self.name, f"to the type of '{few.pop()}'", "input", "expected one of 8 or 16 bits")
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


def attributes_of(node: NodeProto, name: str) -> dict[str, Any]:
    """The attributes of a node of the file `name`, as Python values and tensors."""
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
