"""INT8 for TensorRT: its arithmetic against numpy's, and what it refuses."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper
from torch import nn

from export import trt_int8
from export.calibration import Calibration
from export.errors import ExportError
from export.onnx import export_onnx
from export.session import open_session, to_input
from export.sparsity import eligible_layers
from export.trt_int8 import quantize_trt_int8, quantize_trt_int8_sparse


def two_of_four(module: nn.Module) -> nn.Module:
    """Zero two of every four input channels, wherever there are fours."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.weight.shape[1] % 4 == 0:
            layer.weight.data[:, 1::4] = layer.weight.data[:, 2::4] = 0
    return module


def test_arithmetic_of_a_linear_layer(images: NDArray[np.uint8]) -> None:
    """Integers multiplied in integers, by hand: round half to even, saturate at the calibrated range, one scale per output channel."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(12 * 8 * 3, 5)).eval()
    module[1].weight.data[3] *= 1000  # one channel far larger: a scale for the whole weight would round the others to zero
    model = quantize_trt_int8(export_onnx(module, (3, 12, 8)), Calibration(images[:4], "minmax"), half=False)
    x, weight = to_input(images).reshape(48, -1), module[1].weight.detach().numpy()
    step = np.float32(to_input(images[:4]).max() / 127)
    steps = (np.abs(weight).max(axis=1) / 127).astype(np.float32)
    integers = np.clip(np.rint(x / step), -128, 127).astype(np.int64) @ np.rint(weight / steps[:, None]).astype(np.int64).T
    expected = integers * step * steps + module[1].bias.detach().numpy()
    found = open_session(model, optimise=False).run(None, {"images": to_input(images)})[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_channel_of_zeros_and_a_dead_activation(images: NDArray[np.uint8]) -> None:
    """Scales stay positive, and zero stays zero."""
    module = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 1), nn.Flatten(), nn.Linear(16 * 96, 5)).eval()
    module[0].weight.data[:], module[0].bias.data[:] = 0, 0
    module[1].weight.data[4] = 0
    module[3].bias.data[:] = torch.arange(5)
    model = quantize_trt_int8(export_onnx(module, (3, 12, 8)), Calibration(images, "minmax"))
    with torch.no_grad():
        exact = module(torch.from_numpy(to_input(images)))
    np.testing.assert_allclose(open_session(model, optimise=False).run(None, {"images": to_input(images)})[0], exact, atol=0.01)


def floats(model: ModelProto) -> dict[str, int]:
    """Floating type of every stored tensor and every node's output that has one."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    found = {value.name: value.type.tensor_type.elem_type for value in graph.value_info} | {t.name: t.data_type for t in graph.initializer}
    return {name: kind for name, kind in found.items() if kind in (TensorProto.FLOAT, TensorProto.FLOAT16)}


def test_what_is_not_quantized_is_float16_or_by_name_float32(graph: ModelProto, images: NDArray[np.uint8]) -> None:
    calibration = Calibration(images, "minmax")
    half, single = (quantize_trt_int8(graph, calibration, half=half) for half in (True, False))
    onnx.checker.check_model(half, full_check=True)
    assert set(floats(half).values()) == {TensorProto.FLOAT16}
    assert set(floats(single).values()) == {TensorProto.FLOAT}
    assert (half.graph.input[0].type.tensor_type.elem_type, half.graph.output[0].type.tensor_type.elem_type) == (TensorProto.FLOAT,) * 2
    assert [node.op_type for node in half.graph.node if node.op_type != "Cast"] == [node.op_type for node in single.graph.node]
    found, exact = (open_session(model, optimise=False).run(None, {"images": to_input(images)})[0] for model in (half, single))
    assert 0 < np.abs(found - exact).max() < 0.03 * np.abs(exact).max()


@given(st.floats(1e-7, 65_504.0))
def test_a_scale_of_float16_leaves_nothing_outside(limit: float) -> None:
    """Rounded up to a number of float16: the next smaller one would clip."""
    scale = trt_int8._half_scale(limit)
    assert np.float32(np.float16(scale)) == scale > 0
    assert scale * 127 >= np.float32(limit) * (1 - 1e-6)
    below = np.nextafter(np.float16(scale), np.float16(0))
    assert limit <= trt_int8.DEAD or np.float32(below) * 127 < limit * (1 + 1e-6)


@pytest.mark.parametrize("layer", [1, 3])
def test_what_float16_cannot_hold_is_refused_and_float32_offered(layer: int, images: NDArray[np.uint8]) -> None:
    """Activations of the one layer, and a weight of the other."""
    module = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 1), nn.Flatten(), nn.Linear(16 * 96, 5)).eval()
    module[layer].weight.data[:] *= 3e6
    with pytest.raises(ExportError, match=r"reaches .*; float16 ends at 65,504. Use trt-fp32 or trt-int8-fp32"):
        quantize_trt_int8(export_onnx(module, (3, 12, 8)), Calibration(images, "minmax"))
    quantize_trt_int8(export_onnx(module, (3, 12, 8)), Calibration(images, "minmax"), half=False)


def test_weights_near_float16s_end_keep_their_levels(images: NDArray[np.uint8]) -> None:
    """Channels that folding made tiny: the scale is subnormal in float16, and the levels are those of that very scale."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(288, 5)).eval()
    module[1].weight.data[2] *= 1e-3
    model = quantize_trt_int8(export_onnx(module, (3, 12, 8)), Calibration(images, "minmax"))
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    (levels,) = [value for value in stored.values() if value.dtype == np.int8 and value.ndim == 2]
    (scales,) = [value for value in stored.values() if value.dtype == np.float16 and value.shape == (5,) and (value > 0).all()]
    assert scales[2] < np.finfo(np.float16).tiny
    weight = module[1].weight.detach().numpy()
    rebuilt = (levels.T if levels.shape != weight.shape else levels) * scales.astype(np.float32)[:, None]
    assert np.abs(rebuilt[2] - weight[2]).max() <= scales[2].astype(np.float32) / 2 * 1.001


def test_nothing_to_quantize(images: NDArray[np.uint8]) -> None:
    module = nn.Sequential(nn.Conv2d(3, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with pytest.raises(ExportError, match=r"no layer to quantize.*16 input channels.*Use trt-fp16"):
        quantize_trt_int8(export_onnx(module, (3, 12, 8)), Calibration(images, "minmax"))


def test_the_input_graph_is_not_changed(graph: ModelProto, images: NDArray[np.uint8]) -> None:
    before = graph.SerializeToString()
    quantize_trt_int8(graph, Calibration(images, "minmax"))
    assert graph.SerializeToString() == before


def test_sparse_weights_are_sparse_in_integers(network: nn.Module, images: NDArray[np.uint8]) -> None:
    """The mask survives folding and rounding; the graph is that of trt-int8, byte for byte."""
    calibration = Calibration(images, "minmax")
    model = export_onnx(two_of_four(deepcopy(network)), (3, 12, 8))
    sparse = quantize_trt_int8_sparse(model, calibration)
    layers = {layer.operator: layer for layer in eligible_layers(sparse) if layer.eligible}
    assert set(layers) == {"Conv", "Gemm"}
    assert all(layer.sparse for layer in layers.values())
    assert sparse.SerializeToString() == quantize_trt_int8(model, calibration).SerializeToString()


def test_dense_weights_are_refused(graph: ModelProto, images: NDArray[np.uint8]) -> None:
    with pytest.raises(ExportError, match=r"0 of the 2 layers that could be 2:4 sparse are.*harness compress MODEL --method nm24"):
        quantize_trt_int8_sparse(graph, Calibration(images, "minmax"))


def test_one_group_of_three_is_found(network: nn.Module, images: NDArray[np.uint8]) -> None:
    module = two_of_four(deepcopy(network))
    module[5].weight.data[7, :3] = 1
    with pytest.raises(ExportError, match=r"1 of the 2 layers.*1 of its 96 groups of four input channels"):
        quantize_trt_int8_sparse(export_onnx(module, (3, 12, 8)), Calibration(images, "minmax"))


def test_no_layer_can_be_sparse(images: NDArray[np.uint8]) -> None:
    module = nn.Sequential(nn.Conv2d(3, 18, 1), nn.Conv2d(18, 18, 3, groups=18), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(18, 5))
    with pytest.raises(ExportError, match=r"no layer of this network can be 2:4 sparse: 18 input channels.*depthwise"):
        quantize_trt_int8_sparse(export_onnx(module.eval(), (3, 12, 8)), Calibration(images, "minmax"))
