"""Every operator of the table, one by one, against the ONNX project's reference implementation, and windows against onnxruntime."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from harness.models.onnx_graph import _attributes, run_operator
from harness.models.onnx_operators import OPERATORS, OPSET
from harness.models.onnx_sizes import SIZE_OPERATORS, as_size

RNG = np.random.default_rng(0)


def f(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def p(*shape: int) -> np.ndarray:
    return (RNG.random(shape) + 0.5).astype(np.float32)


def i(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


X = f(2, 3, 8, 7)
CONSTANT = numpy_helper.from_array(np.array([[1.5, 2.0]], np.float32))

# operator -> (attributes, inputs[, operator set])
CASES: dict[str, list[tuple[Any, ...]]] = {
    "Conv": [
        ({}, [X, f(4, 3, 3, 3), f(4)]),
        ({"group": 3, "strides": [2, 1], "pads": [1, 0, 2, 1]}, [X, f(6, 1, 3, 2)]),
        ({"dilations": [2, 2], "auto_pad": "SAME_UPPER"}, [X, f(4, 3, 3, 3)]),
        ({"auto_pad": "SAME_LOWER", "strides": [1, 1]}, [X, f(4, 3, 2, 2)]),
        ({"auto_pad": "VALID"}, [X, f(4, 3, 2, 2)]),
        ({}, [f(2, 3, 9), f(4, 3, 3)]),
    ],
    "MaxPool": [
        ({"kernel_shape": [2, 2], "strides": [2, 2]}, [X]),
        ({"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 0, 1], "dilations": [1, 2]}, [X]),
    ],
    "AveragePool": [
        ({"kernel_shape": [2, 2], "strides": [2, 2]}, [X]),
        ({"kernel_shape": [3, 3], "pads": [1, 0, 1, 1], "count_include_pad": 0}, [X]),
        ({"kernel_shape": [3, 3], "pads": [1, 0, 1, 1], "count_include_pad": 1}, [X]),
    ],
    "GlobalAveragePool": [({}, [X])],
    "GlobalMaxPool": [({}, [X])],
    "Pad": [
        ({}, [X, i(0, 0, 1, 2, 0, 1, 0, 1), np.float32(0.5)]),
        ({"mode": "reflect"}, [X, i(0, 0, 1, 2, 0, 0, 0, 1)]),
        ({"mode": "edge"}, [X, i(0, 0, 1, 2, 0, 0, 0, 1)]),
        ({}, [X, i(1, 2), np.float32(0), i(-1)]),
    ],
    "Resize": [
        ({"mode": mode, "coordinate_transformation_mode": grid, **more}, [X, np.array([], np.float32), *size])
        for mode, more in (("linear", {}), ("nearest", {"nearest_mode": "floor"}), ("nearest", {"nearest_mode": "round_prefer_floor"}))
        for grid in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
        for size in ([np.array([1, 1, 2, 3], np.float32)], [np.array([], np.float32), i(2, 3, 4, 7)])
    ],
    "DepthToSpace": [({"blocksize": 2, "mode": mode}, [f(2, 8, 3, 3)]) for mode in ("DCR", "CRD")],
    "SpaceToDepth": [({"blocksize": 2}, [f(2, 3, 4, 6)])],
    "LRN": [
        ({"size": 3, "alpha": 0.1, "beta": 0.6, "bias": 2.0}, [f(7, 7, 3, 3)])
    ],  # as many images as channels: the reference takes one for the other
    "Gemm": [
        ({"transB": 1}, [f(2, 5), f(4, 5), f(4)]),
        ({"transA": 1, "alpha": 0.5, "beta": 2.0}, [f(5, 2), f(5, 4), f(1, 4)]),
        ({}, [f(2, 5), f(5, 4)]),
    ],
    "MatMul": [({}, [f(2, 3, 4), f(2, 4, 5)]), ({}, [f(2, 3, 4), f(4, 5)])],
    "Einsum": [({"equation": "bij,bkj->bik"}, [f(2, 3, 4), f(2, 5, 4)])],
    "BatchNormalization": [({"epsilon": 1e-3}, [X, f(3), f(3), f(3), p(3)])],
    "LayerNormalization": [({"axis": -1}, [f(2, 4, 6), f(6), f(6)]), ({"axis": 1, "epsilon": 1e-2}, [f(2, 4, 6), f(4, 6)])],
    "InstanceNormalization": [({"epsilon": 1e-3}, [X, f(3), f(3)])],
    "GroupNormalization": [({"num_groups": 2}, [f(2, 4, 3, 3), f(4), f(4)], 21)],
    "Relu": [({}, [X])],
    "LeakyRelu": [({"alpha": 0.2}, [X])],
    "PRelu": [({}, [X, f(3, 1, 1)])],
    "Elu": [({"alpha": 0.7}, [X])],
    "Selu": [({}, [X])],
    "Sigmoid": [({}, [X])],
    "HardSigmoid": [({"alpha": 1 / 6}, [4 * X])],
    "HardSwish": [({}, [4 * X])],
    "Swish": [({"alpha": 1.5}, [X], 24)],
    "Mish": [({}, [X])],
    "Softplus": [({}, [X])],
    "Tanh": [({}, [X])],
    "Erf": [({}, [X])],
    "Gelu": [({}, [X]), ({"approximate": "tanh"}, [X])],
    "Softmax": [({}, [X]), ({"axis": 1}, [X])],
    "LogSoftmax": [({"axis": 1}, [X])],
    "Clip": [({}, [X, np.float32(-0.5), np.float32(0.5)]), ({}, [X, np.float32(0)]), ({}, [X])],
    "Dropout": [({}, [X]), ({}, [X, np.float32(0.5)])],
    "Add": [({}, [X, f(3, 1, 1)])],
    "Sub": [({}, [X, f(3, 1, 1)])],
    "Mul": [({}, [X, f(3, 1, 1)])],
    "Div": [({}, [X, p(3, 1, 1)]), ({}, [i(7, -7, 9, 1).reshape(2, 2), i(2, 2, 4, 5).reshape(2, 2)])],
    "Pow": [({}, [p(2, 3), np.float32(1.5)]), ({}, [f(2, 3), np.array(2, np.int64)])],
    "Sqrt": [({}, [p(2, 3)])],
    "Reciprocal": [({}, [p(2, 3)])],
    "Neg": [({}, [X])],
    "Abs": [({}, [X])],
    "Exp": [({}, [X])],
    "Log": [({}, [p(2, 3)])],
    "Floor": [({}, [X])],
    "Ceil": [({}, [X])],
    "Round": [({}, [np.array([-1.5, -0.5, 0.5, 1.5, 2.5], np.float32)])],
    "Min": [({}, [X, f(7), f(3, 1, 1)])],
    "Max": [({}, [X, f(7), f(3, 1, 1)])],
    "Sum": [({}, [X, f(7), f(3, 1, 1)])],
    "Mean": [({}, [X, f(7), f(3, 1, 1)])],
    "Equal": [({}, [i(1, 2, 3), i(1, 0, 3)])],
    "Greater": [({}, [X, f(7)])],
    "GreaterOrEqual": [({}, [X, f(7)])],
    "Less": [({}, [X, f(7)])],
    "LessOrEqual": [({}, [X, f(7)])],
    "And": [({}, [np.array([True, True, False]), np.array([True, False, False])])],
    "Or": [({}, [np.array([True, True, False]), np.array([True, False, False])])],
    "Not": [({}, [np.array([True, False])])],
    "Where": [({}, [X > 0, X, f(7)])],
    "ReduceMean": [({}, [X, i(2, 3)]), ({"keepdims": 0}, [X, i(-1)]), ({"axes": [1], "keepdims": 1}, [X], 13), ({}, [X])],
    "ReduceSum": [({}, [X, i(2, 3)]), ({"noop_with_empty_axes": 1}, [X])],
    "ReduceMax": [({"keepdims": 0}, [X, i(2, 3)])],
    "ReduceMin": [({"keepdims": 0}, [X, i(2, 3)])],
    "ReduceL2": [({}, [X, i(1)])],
    "ReduceProd": [({"keepdims": 0}, [X, i(1, 3)]), ({"keepdims": 0}, [i(2, 3, 4)])],
    "Shape": [({}, [X]), ({"start": 1, "end": -1}, [X])],
    "Flatten": [({}, [X]), ({"axis": 2}, [X]), ({"axis": 0}, [X]), ({"axis": -1}, [X])],
    "Reshape": [({}, [X, i(0, -1)]), ({}, [X, i(6, 56)]), ({"allowzero": 1}, [f(0, 3), i(3, 0)])],
    "Transpose": [({"perm": [0, 2, 3, 1]}, [X]), ({}, [X])],
    "Concat": [({"axis": 1}, [X, f(2, 1, 8, 7)]), ({"axis": 0}, [i(2), i(-1, 3)])],
    "Split": [({"axis": 1}, [X, i(1, 2)]), ({"axis": 2, "num_outputs": 3}, [X]), ({"axis": 1, "split": [2, 1]}, [X], 11)],
    "Slice": [
        ({}, [X, i(1, 0), i(2**63 - 1, -2), i(2, 3)]),
        ({}, [X, i(-1), i(-(2**63)), i(3), i(-2)]),
        ({}, [X, i(0, 1), i(1, 3)]),
        ({}, [i(5, 6, 7, 8), i(1), i(3)]),
    ],
    "Gather": [
        ({"axis": 1}, [X, i(2, -1)]),
        ({"axis": 3}, [X, np.array([[0, 1], [2, -3]], np.int64)]),
        ({"axis": 2}, [X, np.array(3, np.int64)]),
        ({}, [i(4, 5, 6), np.array(-1, np.int64)]),
        ({}, [i(4, 5, 6), i(2, 0)]),
    ],
    "ScatterND": [({}, [f(4, 3), np.array([[0], [2]], np.int64), f(2, 3)])],
    "Squeeze": [({}, [f(2, 1, 3, 1), i(1)]), ({}, [f(2, 1, 3, 1)]), ({"axes": [3]}, [f(2, 1, 3, 1)], 11)],
    "Unsqueeze": [({}, [f(2, 3), i(0, -1)]), ({"axes": [1]}, [f(2, 3)], 11), ({}, [i(3, 4), i(1)])],
    "Expand": [({}, [f(3, 1), i(2, 3, 4)]), ({}, [f(3, 4), i(1, 1)])],
    "Tile": [({}, [f(2, 3), i(2, 1)])],
    "Range": [({}, [np.array(1, np.int64), np.array(9, np.int64), np.array(3, np.int64)])],
    "Constant": [
        ({"value": CONSTANT}, []),
        ({"value_float": 1.5}, []),
        ({"value_floats": [1.5, 2.5]}, []),
        ({"value_int": 3}, []),
        ({"value_ints": [3, 4]}, []),
    ],
    "ConstantOfShape": [({}, [i(2, 3)]), ({"value": numpy_helper.from_array(i(7))}, [i(3)])],
    "Cast": [
        ({"to": TensorProto.INT64}, [4 * X]),
        ({"to": TensorProto.FLOAT}, [i(1, 2)]),
        ({"to": TensorProto.BOOL}, [np.array([0.0, 2.0], np.float32)]),
    ],
    "Identity": [({}, [X])],
    "QuantizeLinear": [
        ({}, [4 * X, np.float32(0.03), np.uint8(128)]),
        ({"axis": 1}, [4 * X, p(3) / 30, np.array([-3, 0, 5], np.int8)]),
        ({}, [np.array([-0.15, -0.05, 0.05, 0.15, 0.25, 0.35], np.float32), np.float32(0.1), np.int8(0)]),
        ({}, [4 * X, np.float32(0.03)]),
        ({}, [4 * X, np.float32(0.001), np.uint16(30000)], 21),
    ],
    "DequantizeLinear": [
        ({}, [RNG.integers(0, 256, (2, 3, 4), dtype=np.uint8), np.float32(0.03), np.uint8(128)]),
        ({"axis": 0}, [RNG.integers(-128, 128, (3, 4), dtype=np.int8), p(3), np.zeros(3, np.int8)]),
        ({}, [RNG.integers(-(2**31), 2**31, (5,), dtype=np.int32), np.float32(1e-4)]),
    ],
}


def model(op: str, attributes: dict[str, Any], inputs: list[np.ndarray], opset: int, outputs: int = 1) -> ModelProto:
    names = [f"i{k}" for k in range(len(inputs))]
    results = [f"o{k}" for k in range(outputs)]
    given = [name if array.size or op == "Reshape" else "" for name, array in zip(names, inputs, strict=True)]
    node = helper.make_node(op, given, results, **attributes)
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(given, inputs, strict=True)
        if name
    ]
    graph = helper.make_graph([node], "one", values, [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in results])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def ours(model: ModelProto, inputs: list[np.ndarray], opset: int) -> list[np.ndarray]:
    node = model.graph.node[0]
    function = partial(run_operator, node.op_type, {OPSET: opset, **_attributes(node, "test")})
    arguments = [as_size(torch.from_numpy(np.array(a))) if name else None for name, a in zip(node.input, inputs, strict=True)]
    result = function(*arguments)
    results = result if node.op_type == "Split" else (result,)
    return [np.asarray(r) for r in results]


FLAT = [(op, *case) for op, cases in CASES.items() for case in cases]


@pytest.mark.parametrize("case", range(len(FLAT)), ids=[f"{row[0]}-{k}" for k, row in enumerate(FLAT)])
def test_an_operator_computes_what_the_reference_computes(case: int) -> None:
    op, attributes, inputs, *rest = FLAT[case]
    inputs, opset = [np.asarray(a) for a in inputs], rest[0] if rest else 20
    outputs = 1 if op != "Split" else attributes.get("num_outputs") or 2
    graph = model(op, attributes, inputs, opset, outputs)
    expected = ReferenceEvaluator(graph).run(None, {name: a for name, a in zip(graph.graph.node[0].input, inputs, strict=True) if name})
    got = ours(graph, inputs, opset)
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert a.shape == np.shape(b)
        if op != "QuantizeLinear":  # integers travel as float32
            assert a.dtype == np.asarray(b).dtype
        np.testing.assert_allclose(a.astype(np.float64), np.asarray(b).astype(np.float64), rtol=1e-5, atol=1e-5)


def test_every_operator_of_the_table_is_tested() -> None:
    assert set(CASES) == set(OPERATORS)
    assert set(SIZE_OPERATORS) <= set(OPERATORS)


def through_onnxruntime(graph: ModelProto, inputs: list[np.ndarray]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options)
    return session.run(None, {f"i{k}": a for k, a in enumerate(inputs) if a.size})[0]


@pytest.mark.parametrize(
    ("op", "attributes", "inputs", "opset"),
    [
        ("Softmax", {"axis": 2}, [X], 11),  # the reference knows the newer meaning of axis alone
        *(  # a fractional size: the reference takes 10.5 pixels for the length of 10
            (
                "Resize",
                {"mode": "linear", "coordinate_transformation_mode": grid},
                [X, np.array([], np.float32), np.array([1, 1, 2, 1.5], np.float32)],
                20,
            )
            for grid in ("half_pixel", "align_corners", "asymmetric")
        ),
    ],
)
def test_where_the_reference_differs_onnxruntime_decides(op: str, attributes: dict[str, Any], inputs: list[np.ndarray], opset: int) -> None:
    graph = model(op, attributes, inputs, opset)
    np.testing.assert_allclose(ours(graph, inputs, opset)[0], through_onnxruntime(graph, inputs), rtol=1e-5, atol=1e-5)


window = st.fixed_dictionaries(
    {
        "kernel": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "strides": st.lists(st.integers(1, 3), min_size=2, max_size=2),
        "pads": st.lists(st.integers(0, 2), min_size=4, max_size=4),
    }
)
sides = st.tuples(st.integers(4, 11), st.integers(4, 11))


@settings(max_examples=60, deadline=None)
@given(window, sides, st.lists(st.integers(1, 2), min_size=2, max_size=2), st.sampled_from([1, 2]))
def test_convolutions_of_any_geometry_equal_onnxruntime(
    geometry: dict[str, Any], side: tuple[int, int], dilations: list[int], group: int
) -> None:
    kernel, padding = geometry["kernel"], geometry["pads"]
    assume(all(s + padding[a] + padding[a + 2] >= (kernel[a] - 1) * dilations[a] + 1 for a, s in enumerate(side)))
    inputs = [f(2, 4, *side), f(6, 4 // group, *kernel)]
    graph = model("Conv", {"strides": geometry["strides"], "pads": padding, "dilations": dilations, "group": group}, inputs, 20)
    np.testing.assert_allclose(ours(graph, inputs, 20)[0], through_onnxruntime(graph, inputs), rtol=1e-4, atol=1e-4)


@settings(max_examples=80, deadline=None)
@given(window, sides, st.sampled_from(["MaxPool", "AveragePool"]), st.sampled_from([0, 1]), st.sampled_from([0, 1]))
def test_pools_of_any_geometry_equal_onnxruntime(geometry: dict[str, Any], side: tuple[int, int], op: str, ceil: int, include: int) -> None:
    kernel, padding = geometry["kernel"], geometry["pads"]
    assume(all(padding[a] < kernel[a] and padding[a + 2] < kernel[a] for a in (0, 1)))
    assume(all(s + padding[a] + padding[a + 2] >= kernel[a] for a, s in enumerate(side)))
    attributes = {"kernel_shape": list(kernel), "strides": geometry["strides"], "pads": padding, "ceil_mode": ceil}
    if op == "AveragePool":
        attributes["count_include_pad"] = include
    inputs = [f(2, 3, *side)]
    graph = model(op, attributes, inputs, 20)
    np.testing.assert_allclose(ours(graph, inputs, 20)[0], through_onnxruntime(graph, inputs), rtol=1e-5, atol=1e-5)
