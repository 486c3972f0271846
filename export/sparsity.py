"""2:4 sparsity of a graph's weights: which layers can have it, and whether they do after rounding.

Along the input channels, of every four consecutive weights of one output channel (and one kernel position) at least two are zero: the
pattern of NVIDIA's sparse tensor cores from Ampere on (Mishra et al. 2021, arXiv:2104.08378). Weights are read as a runtime reads them,
after their Q/DQ: what was not zero in float may be zero in eight bits, never the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

GROUP, KEPT = 4, 2
LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True)
class SparseLayer:
    """A layer with stored weights, as the 2:4 pattern sees it.

    Attributes:
        node: its name.
        operator: Conv, ConvTranspose, Gemm or MatMul.
        weight: name of the tensor the layer multiplies by.
        shape: of that tensor.
        axis: its input channels, where groups of four lie.
        reason: why the pattern cannot apply; empty where it can.
        groups: groups of four along `axis`; 0 where the pattern cannot apply.
        violations: groups with more than two non-zeros.
    """

    node: str
    operator: str
    weight: str
    shape: tuple[int, ...]
    axis: int
    reason: str
    groups: int
    violations: int

    @property
    def eligible(self) -> bool:
        """Whether the pattern can apply."""
        return not self.reason

    @property
    def sparse(self) -> bool:
        """Whether it does."""
        return self.eligible and self.violations == 0


def violations(weight: NDArray[Any], axis: int) -> int:
    """How many groups of four consecutive weights along `axis` have more than two non-zeros.

    Raises:
        ValueError: the axis is not divisible by four.
    """
    channels = weight.shape[axis]
    if channels % GROUP:
        raise ValueError(f"axis {axis} has {channels} channels; expected a multiple of {GROUP}")
    groups = np.moveaxis(weight, axis, -1).reshape(-1, GROUP)
    return int(np.count_nonzero(np.count_nonzero(groups, axis=1) > KEPT))


def eligible_layers(model: ModelProto) -> list[SparseLayer]:
    """Every layer that multiplies by stored weights, in graph order: eligible for 2:4 or with the reason why not, and its violations.

    Products of two activations have no weights and are left out.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    found = []
    for node in model.graph.node:
        if node.op_type in LAYERS:
            weight = rounded_weight(node.input[1], stored, makers)
            if weight is not None and weight.ndim >= 2:
                found.append(_describe(node, weight))
    return found


def rounded_weight(name: str, stored: dict[str, TensorProto], makers: dict[str, NodeProto]) -> NDArray[Any] | None:
    """The values of a stored weight after its Q/DQ, up to the scale: zero exactly where the layer multiplies by zero.

    Args:
        name: the tensor a layer reads.
        stored: the graph's initialisers by name.
        makers: the graph's nodes by the name of their outputs.

    Returns:
        the weight in the shape the layer reads, or None where it is computed from activations.
    """
    if name in stored:
        return numpy_helper.to_array(stored[name])
    node = makers.get(name)
    if node is None or node.op_type not in ("Identity", "Cast", "Transpose", "DequantizeLinear", "QuantizeLinear"):
        return None
    value = rounded_weight(node.input[0], stored, makers)
    if value is None:
        return None
    if node.op_type == "Transpose":
        return np.transpose(value, next((list(a.ints) for a in node.attribute if a.name == "perm"), None))
    if node.op_type == "DequantizeLinear":
        return np.asarray(value - _zero_point(node, value, stored))
    if node.op_type == "QuantizeLinear":
        scale = numpy_helper.to_array(stored[node.input[1]]).astype(np.float64)
        return np.asarray(np.rint(value / _along(node, scale, value)) + _zero_point(node, value, stored))
    return value


def _zero_point(node: NodeProto, value: NDArray[Any], stored: dict[str, TensorProto]) -> NDArray[Any]:
    if len(node.input) < 3 or node.input[2] not in stored:
        return np.zeros((), np.int32)
    return _along(node, numpy_helper.to_array(stored[node.input[2]]).astype(np.int32), value)


def _along(node: NodeProto, parameter: NDArray[Any], value: NDArray[Any]) -> NDArray[Any]:
    """A scale or zero point, one or one per channel, in a shape that broadcasts against `value`."""
    if parameter.size == 1:
        return parameter.reshape(())
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    shape = [1] * value.ndim
    shape[axis] = parameter.size
    return parameter.reshape(shape)


def _describe(node: NodeProto, weight: NDArray[Any]) -> SparseLayer:
    axis = _input_axis(node, weight.ndim)
    channels, reason = weight.shape[axis], ""
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    if node.op_type == "ConvTranspose":
        reason = "a transposed convolution: there are no sparse kernels for it"
    elif groups > 1:
        kind = "depthwise" if channels == 1 else "grouped"
        reason = f"{kind}: {channels} input channels per filter in {groups} groups; sparse kernels are known for one group only"
    elif channels % GROUP:
        reason = f"{channels} input channels: not a multiple of {GROUP}"
    return SparseLayer(
        node=node.name,
        operator=node.op_type,
        weight=node.input[1],
        shape=weight.shape,
        axis=axis,
        reason=reason,
        groups=0 if reason else weight.size // GROUP,
        violations=0 if reason else violations(weight, axis),
    )


def _input_axis(node: NodeProto, rank: int) -> int:
    """Where a weight has its input channels: Conv (O, I/g, *k), ConvTranspose (I, O/g, *k), Gemm (I, O) or (O, I), MatMul (…, I, O)."""
    if node.op_type == "Conv":
        return 1
    if node.op_type == "Gemm":
        return 1 if any(a.name == "transB" and a.i for a in node.attribute) else 0
    return 0 if node.op_type == "ConvTranspose" else rank - 2
