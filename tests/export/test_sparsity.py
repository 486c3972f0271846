"""2:4 sparsity of weights: counted by hand, by brute force, and after the rounding of Q/DQ."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper

from export.sparsity import SparseLayer, eligible_layers, violations

RNG = np.random.default_rng(0)


def pruned(weight: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """The two largest of every four along `axis` kept."""
    groups = np.moveaxis(weight, axis, -1)
    flat = groups.reshape(-1, 4).copy()
    np.put_along_axis(flat, np.argsort(np.abs(flat), axis=1)[:, :2], 0, axis=1)
    return np.moveaxis(flat.reshape(groups.shape), -1, axis)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(0, 2**32 - 1))
def test_violations_against_brute_force(outputs: int, groups: int, axis: int, seed: int) -> None:
    shape = [outputs, 2, 3]
    shape[axis] = 4 * groups
    weight = np.random.default_rng(seed).integers(0, 2, shape)
    expected = 0
    for place in itertools.product(*(range(n) for i, n in enumerate(shape) if i != axis)):
        line = weight[(*place[:axis], slice(None), *place[axis:])]
        expected += sum(np.count_nonzero(line[start : start + 4]) > 2 for start in range(0, len(line), 4))
    assert violations(weight, axis) == expected


def test_an_axis_not_of_fours_is_refused() -> None:
    with pytest.raises(ValueError, match="6 channels; expected a multiple of 4"):
        violations(np.ones((4, 6)), 1)


def graph(*nodes: object, **weights: NDArray[np.generic]) -> ModelProto:
    body = helper.make_graph(nodes, "g", [], [], [numpy_helper.from_array(value, name) for name, value in weights.items()])
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)])


def only(model: ModelProto) -> SparseLayer:
    (layer,) = eligible_layers(model)
    return layer


@pytest.mark.parametrize(
    ("operator", "shape", "attributes", "axis"),
    [
        ("Conv", (8, 12, 3, 3), {}, 1),
        ("Gemm", (8, 12), {"transB": 1}, 1),
        ("Gemm", (12, 8), {}, 0),
        ("MatMul", (12, 8), {}, 0),
        ("MatMul", (2, 12, 8), {}, 1),
    ],
)
def test_input_channels_of_every_layer(operator: str, shape: tuple[int, ...], attributes: dict[str, int], axis: int) -> None:
    """Pruned along the input channels there is no violation; dense, every group is one."""
    weight = RNG.normal(size=shape).astype(np.float32)
    node = helper.make_node(operator, ["x", "w"], ["y"], "layer", **attributes)
    dense, sparse = only(graph(node, w=weight)), only(graph(node, w=pruned(weight, axis)))
    assert (dense.axis, dense.groups, dense.violations, dense.sparse) == (axis, weight.size // 4, weight.size // 4, False)
    assert (sparse.eligible, sparse.violations, sparse.sparse) == (True, 0, True)


@pytest.mark.parametrize(
    ("operator", "shape", "groups", "reason"),
    [
        ("Conv", (16, 3, 3, 3), 1, "3 input channels: not a multiple of 4"),
        ("Conv", (16, 1, 3, 3), 16, "depthwise: 1 input channels per filter in 16 groups"),
        ("Conv", (16, 4, 3, 3), 4, "grouped: 4 input channels per filter in 4 groups"),
        ("ConvTranspose", (16, 8, 2, 2), 1, "a transposed convolution"),
    ],
)
def test_reasons(operator: str, shape: tuple[int, ...], groups: int, reason: str) -> None:
    layer = only(graph(helper.make_node(operator, ["x", "w"], ["y"], "layer", group=groups), w=np.zeros(shape, np.float32)))
    assert layer.reason.startswith(reason)
    assert not layer.eligible
    assert not layer.sparse
    assert layer.groups == 0


def test_products_of_activations_are_no_layers() -> None:
    assert eligible_layers(graph(helper.make_node("MatMul", ["x", "x"], ["y"], "attention"))) == []


def test_rounding_counts() -> None:
    """A third weight of 0.4 steps is zero in eight bits; one of 0.6 is not. Stored quantized or quantized in the graph, alike."""
    scale = np.array([0.5, 0.25], np.float32)
    weight = np.array([[10, 20, 0.4, 0], [10, 20, 0.6, 0]], np.float32).reshape(2, 4, 1, 1) * scale.reshape(2, 1, 1, 1)
    quantize = helper.make_node("QuantizeLinear", ["w", "scale", "zero"], ["q"], axis=0)
    dequantize = helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], axis=0)
    conv = helper.make_node("Conv", ["x", "d"], ["y"], "layer")
    zero = np.zeros(2, np.int8)
    in_graph = graph(quantize, dequantize, conv, w=weight, scale=scale, zero=zero)
    stored = np.rint(weight / scale.reshape(2, 1, 1, 1)).astype(np.int8)
    assert only(graph(conv, d=weight)).violations == 2
    assert only(in_graph).violations == 1
    assert only(graph(dequantize, conv, q=stored, scale=scale, zero=zero)).violations == 1


def test_an_integer_zero_is_no_zero_where_the_zero_point_is_not() -> None:
    dequantize = helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"])
    conv = helper.make_node("Conv", ["x", "d"], ["y"], "layer")
    stored, scale = np.zeros((1, 4, 1, 1), np.int8), np.float32(1)
    assert only(graph(dequantize, conv, q=stored, scale=np.array(scale), zero=np.array(0, np.int8))).sparse
    assert only(graph(dequantize, conv, q=stored, scale=np.array(scale), zero=np.array(3, np.int8))).violations == 1


def test_a_transposed_weight_is_read_as_the_layer_reads_it() -> None:
    weight = RNG.normal(size=(8, 12)).astype(np.float32)
    nodes = helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]), helper.make_node("MatMul", ["x", "t"], ["y"], "layer")
    assert only(graph(*nodes, w=pruned(weight, 1))).sparse
    assert only(graph(*nodes, w=weight)).violations == weight.size // 4
    assert only(graph(*nodes, w=weight)).shape == (12, 8)
