"""MAC counts against independent counts: a sum over ones, and figures that the literature gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.errors import ExportError
from export.macs import mac_nodes, macs


def one_layer(node: onnx.NodeProto, shape: tuple[int, ...], weight: tuple[int, ...], path: Path) -> Path:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "layer",
        [value("images", TensorProto.FLOAT, ["batch", *shape])],
        [value("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones(weight, np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10), path)
    return path


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, int]:
    kernel, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    return {
        "groups": draw(st.integers(1, 4)),
        "inputs": draw(st.integers(1, 3)),
        "outputs": draw(st.integers(1, 3)),
        "kernel": kernel,
        "dilation": dilation,
        "stride": draw(st.integers(1, 3)),
        "size": (kernel - 1) * dilation + draw(st.integers(1, 6)),
    }


@given(c=convolutions())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_convolution_against_a_sum_of_ones(c: dict[str, int], tmp_path: Path) -> None:
    """With ones for input and weight, and no padding, the sum of the output is the number of products: grouped, strided, dilated alike."""
    x = torch.ones(1, c["groups"] * c["inputs"], c["size"], c["size"] + 1)
    weight = torch.ones(c["groups"] * c["outputs"], c["inputs"], c["kernel"], c["kernel"])
    products = torch.conv2d(x, weight, stride=c["stride"], dilation=c["dilation"], groups=c["groups"]).sum()
    node = helper.make_node(
        "Conv", ["images", "w"], ["logits"], group=c["groups"], strides=[c["stride"]] * 2, dilations=[c["dilation"]] * 2, name="conv"
    )
    assert macs(one_layer(node, tuple(x.shape[1:]), tuple(weight.shape), tmp_path / "conv.onnx")) == int(products)


@pytest.mark.parametrize(
    ("node", "shape", "weight", "expected"),
    [
        (helper.make_node("Gemm", ["images", "w"], ["logits"]), (6,), (6, 10), 60),
        (helper.make_node("Gemm", ["images", "w"], ["logits"], transB=1), (6,), (10, 6), 60),
        (helper.make_node("MatMul", ["images", "w"], ["logits"]), (7, 6), (6, 10), 7 * 60),
        (helper.make_node("MatMul", ["images", "images"], ["logits"]), (4, 5, 5), (1,), 4 * 125),
        (helper.make_node("Conv", ["images", "w"], ["logits"], pads=[1, 1, 1, 1]), (3, 8, 8), (16, 3, 3, 3), 8 * 8 * 16 * 27),
        (helper.make_node("ConvTranspose", ["images", "w"], ["logits"], group=2, strides=[2, 2]), (4, 5, 6), (4, 3, 2, 2), 30 * 4 * 12),
        (helper.make_node("Einsum", ["images", "w"], ["logits"], equation="nchw,kchw->nk"), (3, 4, 5), (7, 3, 4, 5), 7 * 60),
        (helper.make_node("Einsum", ["images", "w"], ["logits"], equation="... c, ck"), (3, 4, 5), (5, 7), 12 * 5 * 7),
        (helper.make_node("Einsum", ["images", "w"], ["logits"], equation="b...i,...ij->...bj"), (4, 5), (4, 5, 7), 4 * 5 * 7),
        (helper.make_node("Attention", ["images"] * 3, ["logits"]), (2, 5, 8), (1,), 2 * (5 * 5 * 8) * 2),
        (helper.make_node("Einsum", ["images"], ["logits"], equation="nchw->nhwc"), (3, 4, 5), (1,), 0),
    ],
    ids=[
        "gemm",
        "gemm transposed",
        "matmul",
        "activations",
        "padded",
        "transposed",
        "einsum",
        "dots",
        "dots before",
        "attention",
        "one input",
    ],
)
def test_layers(node: onnx.NodeProto, shape: tuple[int, ...], weight: tuple[int, ...], expected: int, tmp_path: Path) -> None:
    assert macs(one_layer(node, shape, weight, tmp_path / "layer.onnx")) == expected


def test_a_product_with_weights_of_four_bits(tmp_path: Path) -> None:
    node = helper.make_node("MatMulNBits", ["images", "w", "scales"], ["logits"], domain="com.microsoft", K=32, N=5, bits=4, block_size=32)
    value = helper.make_tensor_value_info
    stored = [numpy_helper.from_array(np.ones((5, 1, 16), np.uint8), "w"), numpy_helper.from_array(np.ones(5, np.float32), "scales")]
    ends = [value("images", TensorProto.FLOAT, ["batch", 32])], [value("logits", TensorProto.FLOAT, None)]
    sets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(helper.make_graph([node], "g", *ends, stored), opset_imports=sets, ir_version=10), tmp_path / "four.onnx")
    assert macs(tmp_path / "four.onnx") == 32 * 5


def test_network_by_hand(graph: ModelProto, tmp_path: Path) -> None:
    """The network of conftest.py on 12 x 8 pixels, layer by layer."""
    path = tmp_path / "network.onnx"
    onnx.save(graph, path)
    stem, depthwise, pointwise, linear = 12 * 8 * 16 * 27, 6 * 4 * 16 * 9, 6 * 4 * 24 * 16, 24 * 5
    assert [node.macs for node in mac_nodes(path)] == [stem, depthwise, pointwise, linear]


def test_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not onnx")
    with pytest.raises(ExportError, match="is not an ONNX file"):
        macs(tmp_path / "bad.onnx")


def test_a_graph_without_products_has_none(tmp_path: Path) -> None:
    """Such as a classifier by distances: nothing is there to be counted, and nothing is wrong."""
    path = one_layer(helper.make_node("Sub", ["images", "w"], ["logits"]), (3, 4, 4), (3, 4, 4), tmp_path / "distance.onnx")
    assert mac_nodes(path) == []


def test_products_in_a_local_function_count(tmp_path: Path) -> None:
    product = helper.make_node("MatMul", ["x", "y"], ["z"], name="product")
    function = helper.make_function("mine", "Net", ["x", "y"], ["z"], [product], [helper.make_opsetid("", 23)])
    path = one_layer(helper.make_node("Net", ["images", "w"], ["logits"], domain="mine"), (4, 6), (6, 5), tmp_path / "function.onnx")
    model = onnx.load(path)
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("mine", 1))
    onnx.save(model, path)
    assert macs(path) == 4 * 6 * 5
