"""INT8 Q/DQ as TensorRT takes it: symmetric everywhere, INT8 alone, activations per tensor, weights per output channel, float bias.

What is not quantized computes in float16, as NVIDIA's own tool has it and people deploy it; `trt-int8-fp32` leaves it in float32.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from export.calibration import DEAD, Calibration, Range, activation_ranges
from export.errors import ExportError
from export.folded import folded
from export.fp16 import INSTEAD, LARGEST, in_half
from export.onnx import strip
from export.placement import Placement, place
from export.sparsity import SparseLayer, eligible_layers

LAYOUT = {"activations": "int8 symmetric per tensor", "weights": "int8 symmetric per channel", "bias": "float16", "rest": "float16"}
FLOAT_LAYOUT = {**LAYOUT, "bias": "float32", "rest": "float32"}
SPARSE_LAYOUT = {**LAYOUT, "sparse": True}
LEVELS = 127  # -128 is left out, as in every symmetric scheme
MIN_SPARSE_SHARE = 0.5  # of the weights that could be 2:4; a linear head or a shortcut may stay dense

Floats = NDArray[np.float32]
ToScale = Callable[[float], np.float32]  # the largest magnitude -> the scale


def quantize_trt_int8(model: ModelProto, calibration: Calibration, *, half: bool = True) -> ModelProto:
    """Quantize a float32 graph for TensorRT, with the placement of `export.placement`.

    Args:
        model: as `export.onnx.export_onnx` returns it.
        calibration: images and method; a range is made symmetric about zero, since TensorRT has no zero points.
        half: what is not quantized computes in float16, and every scale is a number of float16; else in float32.

    Raises:
        ExportError: there is no layer to quantize, an activation is not finite, or something lies beyond float16 (`half`).
    """
    prepared = folded(model)
    placement = place(prepared)
    if not placement.layers:
        raise ExportError(
            "there is no layer to quantize: expected convolutions of 16 input channels or more, or matrix products, with stored weights. "
            "Use trt-fp16."
        )
    to_scale = _half_scale if half else _scale
    scales = _scales(placement, activation_ranges(prepared, calibration), to_scale)
    quantized = _Writer(prepared, placement, scales, to_scale).write()
    return in_half(quantized) if half else strip(quantized)


def quantize_trt_int8_sparse(model: ModelProto, calibration: Calibration) -> ModelProto:
    """The same graph, if its weights are 2:4 sparse after rounding: the builder is then allowed sparse kernels.

    Raises:
        ExportError: also where less than half of the weights that could be 2:4 are.
    """
    quantized = quantize_trt_int8(model, calibration)
    require_sparse(eligible_layers(quantized))
    return quantized


def require_sparse(layers: list[SparseLayer]) -> None:
    """Refuse a network that sparse kernels cannot serve.

    Raises:
        ExportError: names how many layers are 2:4, the first that is not, and how to get such weights.
    """
    able = [layer for layer in layers if layer.eligible]
    if not able:
        reasons = sorted({layer.reason for layer in layers})
        raise ExportError(f"no layer of this network can be 2:4 sparse: {'; '.join(reasons[:4])}. Use trt-int8.")
    sparse = [layer for layer in able if layer.sparse]
    total = sum(layer.groups for layer in able)
    if sum(layer.groups for layer in sparse) < MIN_SPARSE_SHARE * total:
        dense = next(layer for layer in able if not layer.sparse)
        raise ExportError(
            f"{len(sparse)} of the {len(able)} layers that could be 2:4 sparse are, after INT8 rounding; expected at least half of their "
            f"weights. The first that is not is '{dense.node}': {dense.violations:,} of its {dense.groups:,} groups of four input channels "
            "have more than two non-zeros. Make such weights with `harness compress MODEL --method nm24`, or use trt-int8."
        )


def _scales(placement: Placement, ranges: dict[str, Range], to_scale: ToScale) -> dict[str, np.float32]:
    """One positive scale per quantized tensor; tensors of a group share the largest range among them."""
    limits: dict[str, float] = defaultdict(float)
    for name, group in placement.scales.items():
        low, high = ranges[name]
        limits[group] = max(limits[group], float(-low), float(high))
    return {name: to_scale(limits[group]) for name, group in placement.scales.items()}


def _scale(limit: float) -> np.float32:
    return np.float32(limit / LEVELS if limit > DEAD else 1.0)  # what is always zero is zero at any scale


def _half_scale(limit: float) -> np.float32:
    """The least number of float16 that leaves nothing below `limit` outside. It has them down to 6e-8, below which all weights are one."""
    if limit > LARGEST:
        raise ExportError(f"a quantized weight or activation reaches {limit:.3g}; float16 ends at {LARGEST:,.0f}. {INSTEAD}")
    exact = _scale(limit)
    scale = np.float16(exact)
    return np.float32(scale if scale >= exact else np.nextafter(scale, np.float16(np.inf)))


class _Writer:
    """Rewrites a graph: every quantized edge reads a DequantizeLinear."""

    def __init__(self, model: ModelProto, placement: Placement, scales: dict[str, np.float32], to_scale: ToScale) -> None:
        self.model, self.placement, self.scales, self.to_scale = model, placement, scales, to_scale
        self.stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self.added: dict[str, TensorProto] = {}
        self.done: dict[tuple[str, int], str] = {}

    def write(self) -> ModelProto:
        nodes = [part for index, node in enumerate(self.model.graph.node) for part in self._rewritten(index, node)]
        graph = self.model.graph
        del graph.node[:]
        graph.node.extend(nodes)
        used = {name for node in nodes for name in node.input}
        kept = [tensor for tensor in (*graph.initializer, *self.added.values()) if tensor.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        return self.model

    def _rewritten(self, index: int, node: NodeProto) -> Iterator[NodeProto]:
        """What is new before the node, then the node."""
        for side, name in enumerate(node.input):
            if (index, side) in self.placement.edges:
                yield from self._activation(name)
                node.input[side] = _dequantized(name)
        if (axis := self.placement.layers.get(index)) is not None:
            weight = node.input[1]
            if (weight, axis) not in self.done:
                yield self._weight(weight, axis)
            node.input[1] = self.done[weight, axis]
        yield node

    def _activation(self, name: str) -> Iterator[NodeProto]:
        """One pair per tensor, whoever reads it."""
        if (name, -1) in self.done:
            return
        scale, zero = self._store(f"{name}_scale", self.scales[name]), self._store(f"{name}_zero_point", np.int8(0))
        self.done[name, -1] = _dequantized(name)
        yield helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}_quantized"], f"{name}_QuantizeLinear")
        yield helper.make_node("DequantizeLinear", [f"{name}_quantized", scale, zero], [_dequantized(name)], f"{name}_DequantizeLinear")

    def _weight(self, name: str, axis: int) -> NodeProto:
        """A weight stored in INT8, with a scale for each output channel."""
        values: Floats = numpy_helper.to_array(self.stored[name])
        limits = np.abs(np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)).max(axis=1)
        scales = np.array([self.to_scale(float(limit)) for limit in limits], np.float32)
        along = scales.reshape([-1 if place == axis else 1 for place in range(values.ndim)])
        levels = np.clip(np.rint(values / along), -LEVELS, LEVELS).astype(np.int8)
        base = f"{name}_axis{axis}"
        inputs = (
            self._store(f"{base}_quantized", levels),
            self._store(f"{base}_scale", scales),
            self._store(f"{base}_zero_point", np.zeros(len(scales), np.int8)),
        )
        self.done[name, axis] = _dequantized(base)
        return helper.make_node("DequantizeLinear", inputs, [_dequantized(base)], f"{base}_DequantizeLinear", axis=axis)

    def _store(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        self.added[name] = numpy_helper.from_array(np.asarray(value), name)
        return name


def _dequantized(name: str) -> str:
    return f"{name}_dequantized"
