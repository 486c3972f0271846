"""An ONNX graph as a differentiable PyTorch module: a classifier to attack, or an exported Q/DQ graph read back (the "STE twin").

Own code because no kept library does both: onnx2torch (1.5.15, its last, of 2024) has no QuantizeLinear and no operator set above 17.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from export.checked import load_checked
from export.errors import ExportError
from harness.errors import UsageError
from harness.models.onnx_operators import OPERATORS, OPSET
from harness.models.onnx_sizes import SIZE_OPERATORS, as_size, is_size
from harness.models.steps import Ref, Step, StepNetwork

MIN_OPSET = 11


class OnnxGraph(StepNetwork):
    """A graph of one image input and one output.

    Floating-point constants of more than one element are parameters (but the running statistics of a batch norm), all others
    buffers. Whatever depends on constants alone, dequantized weights included, is computed once, here.

    Args:
        model: checked, its weights inside (see `export.onnx.load_checked`).
        name: of the file, for errors.

    Attributes:
        input_shape: (channels, height, width) of the file; None for a size it leaves open.

    Raises:
        UsageError: operators that are not in the table (all listed), another operator set, or not one input and one output.
    """

    def __init__(self, model: ModelProto, name: str = "the ONNX graph") -> None:
        graph = model.graph
        opset = _opset(model, name)
        _check_operators(graph, name)
        source, shape = _input(graph, name)
        if len(graph.output) != 1:
            raise UsageError(
                f"{name} has {len(graph.output)} outputs ({', '.join(o.name for o in graph.output)}); expected one, the logits"
            )
        constants: dict[str, Any] = {tensor.name: as_size(to_torch(tensor, name)) for tensor in graph.initializer}
        steps = _fold(graph, opset, constants, name)
        used = {argument.name for step in steps for argument in step.arguments if isinstance(argument, Ref)}
        statistics = {node.input[i] for node in graph.node if node.op_type == "BatchNormalization" for i in (3, 4)}
        weights = {key: _weight(value, key in statistics) for key, value in constants.items() if key in used}
        if graph.output[0].name in constants:
            raise UsageError(f"{name} returns a constant; expected logits computed from the images")
        super().__init__(steps, weights, source, graph.output[0].name)
        self.input_shape = shape[1:]


def read_onnx(path: Path) -> OnnxGraph:
    """Read an ONNX file into a module. Nothing of it is executed and no other file is opened.

    Raises:
        UsageError: the file is not a graph this can read; says why.
    """
    try:
        return OnnxGraph(load_checked(path), str(path))
    except ExportError as error:
        raise UsageError(str(error)) from error


def to_torch(tensor: TensorProto, name: str) -> Tensor:
    """A stored tensor, as PyTorch's.

    Raises:
        UsageError: it is damaged or of a type PyTorch lacks.
    """
    try:
        return torch.from_numpy(np.array(numpy_helper.to_array(tensor)))
    except (ValueError, TypeError, KeyError, MemoryError) as error:
        kind = helper.tensor_dtype_to_string(tensor.data_type) if tensor.data_type in TensorProto.DataType.values() else tensor.data_type
        raise UsageError(f"{name}: cannot read tensor '{tensor.name}' of type {kind}: {error}") from error


def _opset(model: ModelProto, name: str) -> int:
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if version < MIN_OPSET:
        raise UsageError(f"{name} uses operator set {version}; expected {MIN_OPSET} or newer. Convert it with onnx.version_converter.")
    return version


def _check_operators(graph: GraphProto, name: str) -> None:
    unknown = {node.op_type for node in graph.node if node.op_type not in OPERATORS and node.domain in ("", "ai.onnx")}
    unknown |= {f"{node.domain}::{node.op_type}" for node in graph.node if node.domain not in ("", "ai.onnx")}
    if unknown:
        raise UsageError(
            f"{name} uses operators that cannot be read back: {', '.join(sorted(unknown))}. Supported: {', '.join(sorted(OPERATORS))}."
        )


def _input(graph: GraphProto, name: str) -> tuple[str, list[int | None]]:
    """(name, [n, c, h, w]) of the one input that has no initial value; None for a size left open."""
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    if len(inputs) != 1:
        raise UsageError(f"{name} has {len(inputs)} inputs ({', '.join(v.name for v in inputs)}); expected one, the images")
    kind = inputs[0].type.tensor_type
    shape = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
    if kind.elem_type != TensorProto.FLOAT or len(shape) != 4:
        got = helper.tensor_dtype_to_string(kind.elem_type)
        raise UsageError(f"{name}: input '{inputs[0].name}' is {got} {shape}; expected FLOAT (n, channels, height, width)")
    return inputs[0].name, shape


def _fold(graph: GraphProto, opset: int, constants: dict[str, Any], name: str) -> list[Step]:
    """Turn nodes into steps; compute those that depend on constants alone and add their results to `constants`."""
    steps = []
    for node in graph.node:
        function = partial(run_operator, node.op_type, {OPSET: opset, **_attributes(node, name)})
        outputs = tuple(node.output)
        if all(key in constants for key in node.input if key):
            arguments = [constants[key] if key else None for key in node.input]
            with torch.no_grad():
                result = _guarded(function, arguments, node, name)
            constants.update(zip(outputs, (result,) if len(outputs) == 1 else result, strict=False))
            continue
        steps.append(Step(function, tuple(_argument(key, constants) for key in node.input), {}, _needed(node)))
    return steps


def _needed(node: NodeProto) -> tuple[str, ...]:
    """Only Split yields several values; of any other operator the optional outputs (mask, mean …) must be unused."""
    return tuple(node.output) if node.op_type == "Split" else tuple(node.output)[:1]


def _guarded(function: Any, arguments: list[Any], node: NodeProto, name: str) -> Any:
    try:
        return function(*arguments)
    except (NotImplementedError, RuntimeError, ValueError, TypeError, IndexError, KeyError, ZeroDivisionError, MemoryError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UsageError(f"{name}: cannot compute {node.op_type} '{node.name}': {reason}") from error


def _argument(key: str, constants: dict[str, Any]) -> Any:
    if not key:
        return None
    return constants[key] if key in constants and is_size(constants[key]) else Ref(key)


def run_operator(name: str, attributes: dict[str, Any], *values: Any) -> Any:
    """One operator: on sizes alone as Python arithmetic, otherwise on tensors."""
    if name in SIZE_OPERATORS and values and all(map(is_size, values)):
        try:
            return SIZE_OPERATORS[name](attributes, *values)
        except NotImplementedError:
            pass
    return OPERATORS[name](attributes, *values)


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
