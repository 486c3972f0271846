"""INT8 Q/DQ for onnxruntime's CPU kernels.

UINT8 asymmetric activations, INT8 symmetric weights per output channel, INT32 bias: the one layout in which onnxruntime fuses every
convolution and linear layer into an integer kernel. (Symmetric activations with a float bias, TensorRT's layout, stay in float there.)
Of a network that rounds its activations to few levels itself these are the levels, see `export.own_grid`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
from onnx import ModelProto

from export.calibration import Calibration, activation_ranges
from export.errors import ExportError
from export.folded import folded
from export.onnx import strip
from export.own_grid import finish_levels, plan_levels
from export.quiet import quiet
from export.session import first_line

LAYOUT = {"activations": "uint8 asymmetric per tensor", "weights": "int8 symmetric per channel", "bias": "int32"}
REDUCED_LAYOUT = {**LAYOUT, "weights": "int8 symmetric per channel, 7 bits"}

# Left in float: they have no integer kernel of use here, and eight bits for a softmax or a norm cost accuracy. A batch norm that no
# convolution takes in is one of them; onnxruntime cannot even load it quantized where two of its parameters are one tensor.
FLOAT_OPERATORS = frozenset(
    {"Softmax", "BatchNormalization", "LayerNormalization", "InstanceNormalization", "Where", "ArgMax", "EmbedLayerNormalization", "LSTM",
     "Attention"}
)  # fmt: skip


def _in_groups(model: ModelProto) -> set[str]:
    """Names of transposed convolutions in groups, of whose channels the quantizer takes those of one group for all."""
    transposed = (node for node in model.graph.node if node.op_type == "ConvTranspose")
    return {node.name for node in transposed if any(entry.name == "group" and entry.i > 1 for entry in node.attribute)}


def quantize_int8(model: ModelProto, calibration: Calibration, *, reduce_range: bool = False) -> ModelProto:
    """Quantize a float32 graph by `onnxruntime.quantization.quantize_static`.

    Args:
        model: as `export.onnx.export_onnx` returns it.
        calibration: images and method; the ranges are ours, see `export.calibration`.
        reduce_range: weights of 7 bits, so that the sum of two products stays within 16 bits: 2 * 255 * 64 = 32,640 < 32,767.
            The U8S8 kernels for AVX2 and AVX-512 without VNNI saturate there, and answer differently from all others.

    Raises:
        ExportError: onnxruntime cannot quantize it, or an activation is not finite.
    """
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData, save_tensors_data
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    prepared_graph = folded(model)
    ranges_found = activation_ranges(prepared_graph, calibration)
    plan = plan_levels(prepared_graph, reduce_range=reduce_range)
    found = {**ranges_found, **plan.ranges}
    with tempfile.TemporaryDirectory(prefix="edge-harness-int8-") as name:
        folder = Path(name)
        prepared, ranges, target = (folder / part for part in ("prepared.onnx", "ranges.json", "int8.onnx"))
        onnx.save(prepared_graph, prepared)
        try:
            with quiet():
                # min-max is how the ranges are stored, whatever chose them
                data = {tensor: TensorData(lowest=low, highest=high) for tensor, (low, high) in found.items()}
                save_tensors_data(TensorsData(CalibrationMethod.MinMax, data), ranges)
                quantize_static(
                    prepared,
                    target,
                    calibration_cache_path=ranges,
                    op_types_to_quantize=sorted({*QDQRegistry, *QLinearOpsRegistry} - FLOAT_OPERATORS),
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    per_channel=True,
                    reduce_range=reduce_range,
                    nodes_to_exclude=sorted({*plan.floating, *_in_groups(prepared_graph)}),
                    extra_options={
                        "ActivationSymmetric": False,
                        "WeightSymmetric": True,
                        "QuantizeBias": True,
                        "TensorQuantOverrides": plan.overrides(),
                    },
                )
        except Exception as error:
            raise ExportError(f"onnxruntime cannot quantize the graph: {type(error).__name__}: {first_line(error)}") from error
        quantized = onnx.load(target)
    finish_levels(quantized, plan)
    return strip(quantized)
