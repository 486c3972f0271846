"""INT8 Q/DQ: the layout, silence, and no file left behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper
from torch import nn

from export.calibration import METHODS, Calibration
from export.errors import ExportError
from export.int8 import quantize_int8
from export.onnx import export_onnx
from export.session import open_session, to_input


@pytest.fixture(scope="module")
def quantized(graph: ModelProto, images: NDArray[np.uint8]) -> ModelProto:
    return quantize_int8(graph, Calibration(images, "minmax"))


def test_layout_is_that_of_the_integer_kernels(quantized: ModelProto) -> None:
    """UINT8 activations, INT8 weights with zero point 0 per output channel, INT32 bias."""
    stored = {tensor.name: tensor for tensor in quantized.graph.initializer}
    producer = {name: node for node in quantized.graph.node for name in node.output}
    layers = [node for node in quantized.graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(layers) == 4
    for layer in layers:
        activation, weight, bias = (producer[name] for name in layer.input)
        assert {part.op_type for part in (activation, weight, bias)} == {"DequantizeLinear"}
        assert stored[activation.input[2]].data_type == TensorProto.UINT8
        assert stored[weight.input[0]].data_type == TensorProto.INT8
        assert not numpy_helper.to_array(stored[weight.input[2]]).any()
        assert stored[bias.input[0]].data_type == TensorProto.INT32
        channels = stored[weight.input[0]].dims[0]
        assert stored[weight.input[1]].dims == ([channels] if layer.op_type == "Conv" else stored[weight.input[1]].dims)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_stays_close_to_float(method: str, graph: ModelProto, images: NDArray[np.uint8]) -> None:
    """Signal to quantization noise of the logits above 20 dB: a hundredth of the signal's power."""
    integer = open_session(quantize_int8(graph, Calibration(images, method))).run(None, {"images": to_input(images)})[0]
    exact = open_session(graph).run(None, {"images": to_input(images)})[0]
    assert np.mean((integer - exact) ** 2) < 0.01 * np.mean(exact**2)


def test_is_silent_and_leaves_nothing(
    graph: ModelProto, images: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    quantize_int8(graph, Calibration(images, "entropy"))
    assert capfd.readouterr() == ("", "")
    broken = ModelProto()
    broken.CopyFrom(graph)
    broken.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ExportError):
        quantize_int8(broken, Calibration(images, "minmax"))
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_the_input_graph_is_not_changed(graph: ModelProto, images: NDArray[np.uint8]) -> None:
    before = graph.SerializeToString()
    quantize_int8(graph, Calibration(images, "minmax"))
    assert graph.SerializeToString() == before


def test_reduced_range_has_weights_of_seven_bits_and_nothing_else_changed(graph: ModelProto, images: NDArray[np.uint8]) -> None:
    """Two products, 255 * 64 each, stay within the 16 bits in which kernels without VNNI add them."""
    full, reduced = (quantize_int8(graph, Calibration(images, "minmax"), reduce_range=bits) for bits in (False, True))
    assert [node.op_type for node in full.graph.node] == [node.op_type for node in reduced.graph.node]
    kept, cut = ({tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer} for model in (full, reduced))
    assert kept.keys() == cut.keys()
    weights = [name for name, value in kept.items() if value.dtype == np.int8 and value.ndim >= 2]
    assert weights
    for name in weights:
        assert np.abs(kept[name].astype(int)).max() == 127
        assert np.abs(cut[name].astype(int)).max() == 64
    assert all(np.array_equal(kept[name], cut[name]) for name in kept if kept[name].dtype == np.uint8)


def test_a_batch_norm_that_stands_alone_stays_in_float() -> None:
    """Fresh, its mean is its bias and its variance its weight: PyTorch's exporter stores one tensor for both."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 9, 4)).eval()
    graph, x = export_onnx(network, (3, 8, 8)), np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), dtype=np.uint8)
    quantized = quantize_int8(graph, Calibration(x, "minmax"))
    (norm,) = (node for node in quantized.graph.node if node.op_type == "BatchNormalization")
    assert {tensor.name for tensor in quantized.graph.initializer} >= set(norm.input[1:])
    found, exact = (open_session(part).run(None, {"images": to_input(x)})[0] for part in (quantized, graph))
    assert np.mean((found - exact) ** 2) < 0.01 * np.mean(exact**2)


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions_are_taken_in_groups_too(groups: int) -> None:
    """In float: onnxruntime's quantizer takes the scales of one group for all of its channels, and ends."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 8, 4, 2, 1, groups=groups), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 28 * 28, 5)
    ).eval()
    images = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
    float_graph = export_onnx(network, (3, 16, 16))
    integer = open_session(quantize_int8(float_graph, Calibration(images, "minmax"))).run(None, {"images": to_input(images)})[0]
    exact = open_session(float_graph).run(None, {"images": to_input(images)})[0]
    assert np.mean((integer - exact) ** 2) < 0.01 * np.mean(exact**2)
