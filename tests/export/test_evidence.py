"""Precision evidence: it sees what runs in integers, catches what only claims to, and never overstates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from export.artefact import Artefact
from export.calibration import Calibration
from export.evidence import MIN_INTEGER_SHARE, label, precision_evidence
from export.fp16 import to_fp16
from export.int8 import quantize_int8
from export.macs import mac_nodes
from export.onnx import export_onnx
from export.session import to_input

Plant = Callable[[ModelProto, str], Artefact]
Optimise = Callable[[Path], Path]


@pytest.fixture
def int8(graph: ModelProto, images: NDArray[np.uint8], planted: Plant) -> Artefact:
    return planted(quantize_int8(graph, Calibration(images, "minmax")), "int8")


def otherwise_quantized(graph: ModelProto, images: NDArray[np.uint8], folder: Path, **options: object) -> ModelProto:
    """A Q/DQ file in another layout than ours, written by onnxruntime alone."""

    class Reader(CalibrationDataReader):
        batches = iter([{"images": to_input(images)}])

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return next(self.batches, None)

    onnx.save(graph, folder / "float.onnx")
    quant_pre_process(folder / "float.onnx", folder / "prepared.onnx")
    quantize_static(folder / "prepared.onnx", folder / "other.onnx", Reader(), per_channel=True, **options)
    return onnx.load(folder / "other.onnx")


def test_whole_network_in_integers(int8: Artefact, optimised: Optimise) -> None:
    """Depthwise, pointwise and linear layers too."""
    found = precision_evidence(optimised(int8.path), int8)
    assert (found.integer_mac_share, found.label) == (1.0, "int8")
    assert found.kernels["QLinearConv"] == 3
    assert found.kernels["QGemm"] == 1


def test_float_file(graph: ModelProto, planted: Plant, optimised: Optimise) -> None:
    artefact = planted(graph, "fp32")
    found = precision_evidence(optimised(artefact.path), artefact)
    assert (found.integer_mac_share, found.label) == (0.0, "fp32")


def test_tensorrt_layout_is_caught(
    graph: ModelProto, images: NDArray[np.uint8], tmp_path: Path, planted: Plant, optimised: Optimise
) -> None:
    """Symmetric INT8 inputs of the weighted layers, float biases and outputs: Q/DQ before every layer, and every kernel in float."""
    weighted = ["Conv", "Gemm"]
    options = {"ActivationSymmetric": True, "QuantizeBias": False, "OpTypesToExcludeOutputQuantization": weighted}
    layout = {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8, "op_types_to_quantize": weighted}
    model = otherwise_quantized(graph, images, tmp_path, **layout, extra_options=options)
    artefact = planted(model, "int8")
    found = precision_evidence(optimised(artefact.path), artefact)
    assert sum(node.op_type == "QuantizeLinear" for node in model.graph.node) >= 4
    assert (found.integer_mac_share, found.label) == (0.0, "int8 claimed, float kernels")
    assert "0 integer, 4 float kernels" in found.note


@pytest.mark.parametrize("left_out", [0, 2, 3])  # onnxruntime quantizes layer 1 itself when it loads: both its neighbours are quantized
def test_one_layer_in_float_costs_exactly_its_macs(
    left_out: int, graph: ModelProto, images: NDArray[np.uint8], tmp_path: Path, planted: Plant, optimised: Optimise
) -> None:
    layers = [node.name for node in graph.graph.node if node.op_type in ("Conv", "Gemm")]
    model = otherwise_quantized(
        graph, images, tmp_path, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, nodes_to_exclude=[layers[left_out]]
    )
    artefact = planted(model, "int8")
    by_hand = [12 * 8 * 16 * 27, 6 * 4 * 16 * 9, 6 * 4 * 24 * 16, 24 * 5]
    expected = 1 - by_hand[left_out] / sum(by_hand)
    found = precision_evidence(optimised(artefact.path), artefact)
    assert found.integer_mac_share == pytest.approx(expected)
    assert (found.label == "int8") == (expected >= MIN_INTEGER_SHARE)


def test_a_transposed_convolution_counts_as_the_float_kernel_that_it_is(planted: Plant, optimised: Optimise) -> None:
    """onnxruntime has no integer kernel of it: a network of two thirds transposed convolutions was called INT8."""
    layers = [nn.Conv2d(3, 8, 1), nn.ReLU(), nn.ConvTranspose2d(8, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    images = np.random.default_rng(0).integers(0, 256, (16, 12, 8, 3), dtype=np.uint8)
    graph = export_onnx(nn.Sequential(*layers).eval(), (3, 12, 8))
    artefact = planted(quantize_int8(graph, Calibration(images, "minmax")), "int8")
    found = precision_evidence(optimised(artefact.path), artefact)
    assert (found.integer_mac_share, found.label) == (pytest.approx(1 / 3), "int8 claimed, float kernels")
    assert "1 integer, 1 float kernels" in found.note


def test_kernels_that_lost_their_name_are_found_by_their_weight(int8: Artefact, optimised: Optimise) -> None:
    path = optimised(int8.path)
    model = onnx.load(path)
    for number, node in enumerate(model.graph.node):
        node.name = f"renamed_{number}"
    onnx.save(model, path)
    assert precision_evidence(path, int8).integer_mac_share == 1.0


def test_the_graph_of_another_file_earns_nothing(int8: Artefact, optimised: Optimise) -> None:
    path = optimised(int8.path)
    model = onnx.load(path)
    for node in model.graph.node:
        node.name = f"foreign_{node.name}"
        node.input[:] = [f"foreign_{name}" for name in node.input]
    onnx.save(model, path)
    found = precision_evidence(path, int8)
    assert (found.integer_mac_share, found.label) == (0.0, "int8 claimed, float kernels")
    assert "match no layer" in found.note


def test_a_kernel_counts_once(int8: Artefact, optimised: Optimise) -> None:
    path = optimised(int8.path)
    model = onnx.load(path)
    model.graph.node.extend([node for node in model.graph.node if node.op_type == "QLinearConv"])
    onnx.save(model, path)
    assert precision_evidence(path, int8).integer_mac_share == 1.0


@pytest.mark.parametrize("content", [None, b"", b"garbage"])
def test_an_unreadable_graph_proves_nothing(content: bytes | None, int8: Artefact, tmp_path: Path) -> None:
    path = tmp_path / "optimised.onnx"
    if content is not None:
        path.write_bytes(content)
    found = precision_evidence(path, int8)
    assert (found.integer_mac_share, found.label) == (None, "int8 claimed, not verified")


def test_weights_of_every_layer_are_known(int8: Artefact) -> None:
    assert all(len(node.weights) == 2 and node.macs > 0 for node in mac_nodes(int8.path))


def test_half_precision_that_was_cast_to_float32_on_loading(graph: ModelProto, images: NDArray[np.uint8], planted: Plant) -> None:
    """As onnxruntime does on a CPU without float16 kernels: the float file's own graph stands for what it makes of the other."""
    artefact, wide = planted(to_fp16(graph, Calibration(images, "minmax")), "fp16"), planted(graph, "fp32")
    assert precision_evidence(artefact.path, artefact).label == "fp16"
    found = precision_evidence(wide.path, artefact)
    assert (found.label, found.integer_mac_share) == ("fp16 claimed, float32 kernels", 0.0)
    assert found.note.endswith("0.0% in kernels with float16 weights")


@pytest.mark.parametrize(
    ("claimed", "share", "expected"),
    [
        ("int8", 1.0, "int8"),
        ("int8", MIN_INTEGER_SHARE, "int8"),
        ("int8", MIN_INTEGER_SHARE - 1e-9, "int8 claimed, float kernels"),
        ("int8", None, "int8 claimed, not verified"),
        ("fp32", 0.0, "fp32"),
        ("fp32", None, "fp32"),
        ("fp32", 0.5, "fp32 claimed, 50% integer kernels"),
    ],
)
def test_labels(claimed: str, share: float | None, expected: str) -> None:
    assert label(claimed, share) == expected
