"""Every operator of the table, one by one, against the ONNX project's reference implementation, and windows against onnxruntime."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, defs, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from export.errors import ExportError
from export.onnx import export_onnx
from export.session import open_session
from harness.errors import UsageError
from harness.models.onnx_graph import OnnxGraph
from harness.models.onnx_operators import OPERATORS
from harness.models.onnx_reader import attributes_of
from harness.models.onnx_sizes import SIZE_OPERATORS, as_size, can_be_size, on_sizes
from harness.models.onnx_support import ATTRIBUTES, OPSET, OUTPUTS, SEVERAL, SIZE_INPUTS

pytestmark = pytest.mark.slow(50)

RNG = np.random.default_rng(0)


def f(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def p(*shape: int) -> np.ndarray:
    return (RNG.random(shape) + 0.5).astype(np.float32)


def i(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


X, P = f(2, 3, 8, 7), p(2, 3, 8, 7)
CONSTANT = numpy_helper.from_array(np.array([[1.5, 2.0]], np.float32))

# operator -> (attributes, inputs[, operator set])
CASES: dict[str, list[tuple[Any, ...]]] = {
    "Conv": [
        ({}, [X, f(4, 3, 3, 3), f(4)]),
        ({"group": 3, "strides": [2, 1], "pads": [1, 0, 2, 1]}, [X, f(6, 1, 3, 2)]),
        ({"dilations": [2, 2], "auto_pad": "SAME_UPPER", "kernel_shape": [3, 3]}, [X, f(4, 3, 3, 3)]),
        ({"auto_pad": "SAME_LOWER", "strides": [1, 1]}, [X, f(4, 3, 2, 2)]),
        ({"auto_pad": "VALID"}, [X, f(4, 3, 2, 2)]),
        ({}, [f(2, 3, 9), f(4, 3, 3)]),
    ],
    "ConvTranspose": [
        ({"kernel_shape": [2, 2], "auto_pad": "VALID"}, [X, f(3, 4, 2, 2), f(4)]),
        ({"strides": [2, 3], "pads": [1, 0, 2, 1], "output_padding": [1, 2]}, [X, f(3, 4, 3, 3)]),
        ({"strides": [2, 2], "pads": [1, 1, 1, 1], "dilations": [2, 1], "group": 3}, [X, f(3, 2, 3, 4), f(6)]),
    ],
    "MaxPool": [
        ({"kernel_shape": [2, 2], "strides": [2, 2]}, [X]),
        ({"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 0, 1], "dilations": [1, 2], "storage_order": 1}, [X]),
        ({"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, [X]),
        ({"kernel_shape": [2, 3], "strides": [2, 3], "auto_pad": "SAME_UPPER"}, [X]),
        ({"kernel_shape": [2, 2], "strides": [3, 2], "auto_pad": "SAME_LOWER", "ceil_mode": 0}, [X]),
        *(
            ({"kernel_shape": [3, 2], "strides": strides, "pads": pads, "dilations": dilations}, [X])
            for strides in ([1, 1], [2, 3])
            for pads, dilations in (([2, 1, 2, 1], [2, 2]), ([1, 0, 2, 1], [2, 3]), ([2, 1, 0, 1], [2, 3]))
        ),
    ],
    "AveragePool": [
        ({"kernel_shape": [2, 2], "strides": [2, 2]}, [X]),
        ({"kernel_shape": [3, 3], "pads": [1, 0, 1, 1], "count_include_pad": 0}, [X]),
        ({"kernel_shape": [3, 3], "pads": [1, 0, 1, 1], "count_include_pad": 1, "ceil_mode": 0}, [X]),
        ({"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1, "dilations": [1, 1]}, [X]),
        ({"kernel_shape": [3, 2], "auto_pad": "VALID"}, [X]),
    ],
    "GlobalAveragePool": [({}, [X])],
    "GlobalMaxPool": [({}, [X])],
    "Pad": [
        ({}, [X, i(0, 0, 1, 2, 0, 1, 0, 1), np.float32(0.5)]),
        ({"mode": "reflect"}, [X, i(0, 0, 1, 2, 0, 0, 0, 1)]),
        ({"mode": "edge"}, [X, i(0, 0, 1, 2, 0, 0, 0, 1)]),
        ({"mode": "wrap"}, [X, i(0, 0, 1, 2, 0, 0, 0, 1)], 19),
        ({}, [X, i(1, 2), np.float32(0), i(-1)]),
        ({"pads": [0, 0, 1, 0, 0, 0, 2, 1], "value": 0.5}, [X], 9),
    ],
    "Resize": [
        ({"mode": mode, "coordinate_transformation_mode": grid, **more}, [X, np.array([], np.float32), *size])
        for mode, more in (("linear", {}), ("nearest", {"nearest_mode": "floor"}), ("nearest", {"nearest_mode": "round_prefer_floor"}))
        for grid in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
        for size in ([np.array([1, 1, 2, 3], np.float32)], [np.array([], np.float32), i(2, 3, 4, 7)])
    ]
    + [
        ({"mode": "cubic", "cubic_coeff_a": -0.5}, [X, np.array([], np.float32), np.array([1, 1, 2, 2], np.float32)]),
        ({"mode": "linear", "axes": [-1, -2]}, [X, np.array([], np.float32), np.array([2, 1.5], np.float32)]),
        ({"mode": "linear", "axes": [2, 3], "extrapolation_value": 1.0}, [X, np.array([], np.float32), np.array([2, 1.5], np.float32)]),
        ({"mode": "nearest", "nearest_mode": "ceil"}, [X, np.array([], np.float32), np.array([1, 1, 2, 2], np.float32)]),
        ({"mode": "nearest", "nearest_mode": "round_prefer_ceil"}, [X, np.array([], np.float32), np.array([1, 1, 2, 2], np.float32)]),
        *(({"mode": mode}, [X, np.array([1, 1, *to], np.float32)], 10) for mode in ("linear", "nearest") for to in ((2, 2), (0.7, 1.6))),
    ],
    "Upsample": [
        ({"mode": "nearest", "scales": [1.0, 1.0, 2.0, 2.0]}, [X], 7),
        ({"mode": "linear"}, [X, np.array([1, 1, 2, 3], np.float32)], 9),
    ],
    "DepthToSpace": [({"blocksize": 2, "mode": mode}, [f(2, 8, 3, 3)]) for mode in ("DCR", "CRD")],
    "SpaceToDepth": [({"blocksize": 2}, [f(2, 3, 4, 6)])],
    "LRN": [
        ({"size": 3}, [X]),
        ({"size": 3, "alpha": 0.1, "beta": 0.6, "bias": 2.0}, [f(7, 7, 3, 3)]),
    ],  # as many images as channels: the reference takes one for the other
    "Gemm": [
        ({"transB": 1}, [f(2, 5), f(4, 5), f(4)]),
        ({"transA": 1, "alpha": 0.5, "beta": 2.0}, [f(5, 2), f(5, 4), f(1, 4)]),
        ({}, [f(2, 5), f(5, 4)]),
    ],
    "MatMul": [({}, [X, f(7, 5)]), ({}, [f(2, 3, 4), f(2, 4, 5)]), ({}, [f(2, 3, 4), f(4, 5)])],
    "Einsum": [({"equation": "nchw,wk->nkhc"}, [X, f(7, 4)]), ({"equation": "bij,bkj->bik"}, [f(2, 3, 4), f(2, 5, 4)])],
    "Attention": [
        ({}, [f(2, 4, 5, 6), f(2, 4, 7, 6), f(2, 4, 7, 3)], 23),
        ({"is_causal": 1, "qk_matmul_output_mode": 0}, [f(2, 4, 7, 6), f(2, 2, 5, 6), f(2, 2, 5, 3)], 23),
        ({"scale": 0.3, "softcap": 0.0, "softmax_precision": 1}, [f(2, 4, 5, 6), f(2, 4, 7, 6), f(2, 4, 7, 3), f(5, 7) > -0.5], 23),
        ({"q_num_heads": 4, "kv_num_heads": 2, "is_causal": 1}, [f(2, 5, 24), f(2, 7, 12), f(2, 7, 6), f(4, 5, 7)], 23),
        *(({}, [f(2, 4, 5, 6), f(2, 4, 7, 6), f(2, 4, 7, 3), mask], 24) for mask in (f(2, 1, 5, 6), f(5, 4) > -1)),
    ],
    "BatchNormalization": [({"epsilon": 1e-3}, [X, f(3), f(3), f(3), p(3)])],
    "RMSNormalization": [({"axis": 2, "epsilon": 1e-2}, [X, f(8, 7)], 23)],
    "LpNormalization": [({"axis": 1, "p": 2}, [X]), ({"axis": -1, "p": 1}, [X])],
    "LayerNormalization": [
        ({}, [X, f(7), f(7)]),
        ({"axis": -1}, [f(2, 4, 6), f(6), f(6)]),
        ({"axis": 1, "epsilon": 1e-2}, [f(2, 4, 6), f(4, 6)]),
    ],
    "InstanceNormalization": [({"epsilon": 1e-3}, [X, f(3), f(3)])],
    "GroupNormalization": [({"num_groups": 2, "epsilon": 0.1}, [f(2, 4, 3, 3), f(4), f(4)], 21)],
    "Relu": [({}, [X])],
    "LeakyRelu": [({"alpha": 0.2}, [X])],
    "PRelu": [({}, [X, f(3, 1, 1)])],
    "ThresholdedRelu": [({"alpha": 0.3}, [X])],
    "Celu": [({"alpha": 0.7}, [X])],
    "Softsign": [({}, [X])],
    "Elu": [({"alpha": 0.7}, [X])],
    "Selu": [({}, [X]), ({"alpha": 1.5, "gamma": 1.2}, [X])],
    "Sigmoid": [({}, [X])],
    "HardSigmoid": [({"alpha": 1 / 6}, [4 * X]), ({"alpha": 0.3, "beta": 0.4}, [X])],
    "HardSwish": [({}, [4 * X])],
    "Swish": [({"alpha": 1.5}, [X], 24)],
    "Mish": [({}, [X])],
    "Softplus": [({}, [X])],
    "Tanh": [({}, [X])],
    "Erf": [({}, [X])],
    "Gelu": [({}, [X]), ({"approximate": "tanh"}, [X])],
    "Softmax": [({}, [X]), ({"axis": 1}, [X])],
    "LogSoftmax": [({"axis": 1}, [X])],
    "Clip": [
        ({}, [X, np.float32(-0.5), np.float32(0.5)]),
        ({}, [X, np.float32(0)]),
        ({}, [X]),
        ({}, [X, np.array([], np.float32), np.float32(0.3)]),
        ({"min": -0.5, "max": 0.25}, [X], 6),
        ({"max": 0.25}, [X], 7),
    ],
    "Dropout": [({}, [X]), ({"seed": 3}, [X, np.float32(0.5)]), ({"ratio": 0.5}, [X], 7)],
    "Add": [({}, [X, f(3, 1, 1)])],
    "Sub": [({}, [X, f(3, 1, 1)])],
    "Mul": [({}, [X, f(3, 1, 1)])],
    "Div": [({}, [X, p(3, 1, 1)]), ({}, [i(7, -7, 9, 1).reshape(2, 2), i(2, 2, 4, 5).reshape(2, 2)])],
    "Pow": [({}, [P, np.float32(1.5)]), ({}, [X, np.array(2, np.int64)]), ({}, [P, np.float32(0.5)]), ({}, [P, p(3, 1, 1)])],
    "Sin": [({}, [X])],
    "Tan": [({}, [X])],
    "Asin": [({}, [X.clip(-0.9, 0.9)])],
    "Acos": [({}, [X.clip(-0.9, 0.9)])],
    "Atan": [({}, [X])],
    "Sinh": [({}, [X])],
    "Cosh": [({}, [X])],
    "Asinh": [({}, [X])],
    "Acosh": [({}, [1 + P])],
    "Atanh": [({}, [X.clip(-0.9, 0.9)])],
    "Shrink": [({}, [X]), ({"bias": 0.2, "lambd": 0.7}, [X])],
    "Hardmax": [({}, [X]), ({"axis": 1}, [X])],
    "MeanVarianceNormalization": [({}, [X]), ({"axes": [2, 3]}, [X])],
    "GridSample": [
        ({}, [X, f(2, 5, 6, 2)]),
        ({"mode": "nearest", "padding_mode": "border", "align_corners": 1}, [X, 1.5 * f(2, 5, 6, 2)]),
        ({"mode": "cubic", "padding_mode": "reflection"}, [X, f(2, 5, 6, 2)]),
        ({"mode": "bilinear", "align_corners": 1}, [X, f(2, 5, 6, 2)], 16),
    ],
    "ArgMax": [({}, [X]), ({"axis": -1, "keepdims": 0}, [X])],
    "ArgMin": [({}, [X]), ({"axis": 1, "keepdims": 0}, [X])],
    "OneHot": [
        ({}, [i(0, 2, -1, 4), np.array(5, np.int64), f(2)]),
        ({"axis": 1}, [i(0, 2, -1, 4, 1, 0).reshape(2, 3), np.array(5, np.int64), f(2)]),
        ({"axis": 0}, [i(0, 2, -1, 4, 1, 0).reshape(2, 3), np.array(5, np.int64), f(2)]),
    ],
    "EyeLike": [({}, [f(4, 6)]), ({"k": 2, "dtype": 7}, [f(4, 6)]), ({"k": -1}, [f(4, 6)])],
    "Cos": [({}, [X])],
    "CumSum": [
        ({}, [X, i(2).reshape(())]),
        ({"reverse": 1}, [X, i(-1).reshape(())]),
        ({"exclusive": 1}, [np.arange(12, dtype=np.int32).reshape(3, 4), i(0).reshape(())]),
        ({"exclusive": 1, "reverse": 1}, [X, i(1).reshape(())]),
    ],
    "Mod": [
        ({}, [i(7, -7, 9, 1), i(2, 4, 4, 5)]),
        ({"fmod": 1}, [i(7, -7, 9, 1), i(2, 4, -4, 5)]),
        ({"fmod": 1}, [X, np.float32(0.3)]),
    ],
    "Sign": [({}, [X]), ({}, [np.array([-1.5, -0.0, 0.5, 2.5], np.float32)])],
    "Xor": [({}, [np.array([True, True, False]), np.array([True, False, False])])],
    "Sqrt": [({}, [P])],
    "Reciprocal": [({}, [P])],
    "Neg": [({}, [X])],
    "Abs": [({}, [X])],
    "Exp": [({}, [X])],
    "Log": [({}, [P])],
    "Floor": [({}, [X])],
    "Ceil": [({}, [X])],
    "Round": [({}, [X]), ({}, [np.array([-1.5, -0.5, 0.5, 1.5, 2.5], np.float32)])],
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
    "ReduceL1": [({}, [X, i(1)]), ({"keepdims": 0, "axes": [-1, 1]}, [X], 11)],
    "ReduceL2": [({}, [X, i(1)]), ({"keepdims": 0, "axes": [2]}, [X], 9), ({}, [X])],
    "ReduceSumSquare": [({}, [X, i(1)])],
    "ReduceLogSum": [({}, [P, i(1)])],
    "ReduceLogSumExp": [({}, [X, i(1, 2)])],
    "ReduceProd": [({"keepdims": 0}, [X, i(1, 3)]), ({"keepdims": 0}, [i(2, 3, 4)])],
    "Size": [({}, [X])],
    "Shape": [({}, [X]), ({"start": 1, "end": -1}, [X])],
    "Flatten": [({}, [X]), ({"axis": 2}, [X]), ({"axis": 0}, [X]), ({"axis": -1}, [X])],
    "Reshape": [({}, [X, i(0, -1)]), ({}, [X, i(6, 56)]), ({"allowzero": 1}, [f(0, 3), i(3, 0)])],
    "Transpose": [({"perm": [0, 2, 3, 1]}, [X]), ({}, [X])],
    "Concat": [({"axis": -1}, [X]), ({"axis": 1}, [X, f(2, 1, 8, 7)]), ({"axis": 0}, [i(2), i(-1, 3)])],
    "Split": [
        ({"axis": 1}, [X, i(1, 2)]),
        ({"axis": 2, "num_outputs": 3}, [X]),
        ({"axis": 1, "split": [2, 1]}, [X], 11),
        ({"axis": 2}, [X], 11),
        ({"axis": 2}, [X], 13),
    ],
    "Slice": [
        ({}, [X, i(1, 0), i(2**63 - 1, -2), i(2, 3)]),
        ({}, [X, i(-1), i(-(2**63)), i(3), i(-2)]),
        ({}, [X, i(0, 1), i(1, 3)]),
        ({}, [i(5, 6, 7, 8), i(1), i(3)]),
        ({"starts": [0, 1], "ends": [1, -1], "axes": [0, 2]}, [X], 9),
        ({"starts": [0, 1], "ends": [1, 100]}, [X], 7),
    ],
    "Gather": [
        ({"axis": 1}, [X, i(2, -1)]),
        ({"axis": 3}, [X, np.array([[0, 1], [2, -3]], np.int64)]),
        ({"axis": 2}, [X, np.array(3, np.int64)]),
        ({}, [i(4, 5, 6), np.array(-1, np.int64)]),
        ({}, [i(4, 5, 6), i(2, 0)]),
    ],
    "GatherND": [({}, [X, np.array([[0, 1], [1, -1]], np.int64)])],
    "GatherElements": [
        ({"axis": 2}, [X, RNG.integers(-8, 8, (2, 3, 5, 7))]),
        ({}, [f(4, 3), np.array([[0, -1, 2], [3, 1, -4]], np.int64)]),
    ],
    "ScatterElements": [
        ({}, [f(4, 3), np.array([[0, -1, 2]], np.int64), f(1, 3)]),
        *(
            ({"axis": 1, "reduction": how}, [f(2, 5), np.array([[1, 1, -1], [0, 2, 2]], np.int64), f(2, 3)], 18)
            for how in ("add", "mul", "max", "min")
        ),
    ],
    "ScatterND": [
        ({}, [f(4, 3), np.array([[0], [2]], np.int64), f(2, 3)]),
        ({"reduction": "add"}, [f(4, 3), np.array([[2], [2]], np.int64), f(2, 3)], 18),
    ],
    "TopK": [
        ({"axis": 1}, [X, i(2)]),
        ({"axis": -2, "largest": 0, "sorted": 1}, [X, i(3)]),
        ({"axis": 1, "k": 2}, [X], 9),
    ],
    "Trilu": [({}, [X]), ({"upper": 0}, [X, np.array(1, np.int64)]), ({"upper": 1}, [X, np.array(-2, np.int64)])],
    "IsNaN": [({}, [np.array([[0.0, np.nan], [np.inf, 1.0]], np.float32)])],
    "IsInf": [({"detect_negative": 1, "detect_positive": 1}, [np.array([[0.0, np.nan], [np.inf, -np.inf]], np.float32)])],
    "Col2Im": [
        ({}, [f(2, 12, 30), i(5, 6), i(1, 1)]),
        ({"strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2]}, [f(2, 12, 24), i(6, 7), i(2, 2)]),
    ],
    "Squeeze": [({}, [f(2, 1, 3, 1), i(1)]), ({}, [f(2, 1, 3, 1)]), ({"axes": [3]}, [f(2, 1, 3, 1)], 11)],
    "Unsqueeze": [({}, [X, i(2, -1)]), ({}, [f(2, 3), i(0, -1)]), ({"axes": [1]}, [f(2, 3)], 11), ({}, [i(3, 4), i(1)])],
    "Expand": [({}, [X, i(1, 1, 1, 1)]), ({}, [f(3, 1), i(2, 3, 4)]), ({}, [f(3, 4), i(1, 1)])],
    "Tile": [({}, [X, i(1, 2, 1, 1)]), ({}, [f(2, 3), i(2, 1)])],
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
    "CastLike": [({}, [i(1, 2), np.float32(1)])],
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
        (
            {"axis": 0, "block_size": 3},
            [RNG.integers(0, 256, (7, 4), dtype=np.uint8), p(3, 4), RNG.integers(0, 256, (3, 4), dtype=np.uint8)],
            21,
        ),
    ],
    "DynamicQuantizeLinear": [({}, [image]) for image in (X[:1], P[:1], -P[:1])],
    "MatMulInteger": [
        ({}, [RNG.integers(0, 256, (2, 3, 4), dtype=np.uint8), RNG.integers(-128, 128, (4, 5), dtype=np.int8)]),
        ({}, [RNG.integers(0, 256, shape, dtype=np.uint8) for shape in ((3, 4), (4, 5), (), (5,))]),
    ],
    "ConvInteger": [
        ({}, [RNG.integers(0, 256, (2, 3, 8, 7), dtype=np.uint8), RNG.integers(-128, 128, (4, 3, 3, 3), dtype=np.int8)]),
        (
            {"group": 3, "strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2], "kernel_shape": [3, 2]},
            [RNG.integers(0, 256, shape, dtype=np.uint8) for shape in ((2, 3, 8, 7), (6, 1, 3, 2), (), ())],
        ),
        ({"auto_pad": "SAME_UPPER"}, [RNG.integers(0, 256, shape, dtype=np.uint8) for shape in ((1, 2, 5, 4), (3, 2, 2, 3), ())]),
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
    kinds = [TensorProto.INT64 if (op, name) == ("TopK", "o1") else TensorProto.FLOAT for name in results]
    graph = helper.make_graph(
        [node], "one", values, [helper.make_tensor_value_info(name, kind, None) for name, kind in zip(results, kinds, strict=True)]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def ours(model: ModelProto, inputs: list[np.ndarray], opset: int) -> list[np.ndarray]:
    node = model.graph.node[0]
    attributes = {OPSET: opset, OUTPUTS: len(node.output), **attributes_of(node, "test")}
    tensors = [torch.from_numpy(np.array(a)) if name else None for name, a in zip(node.input, inputs, strict=True)]
    numbers = SIZE_INPUTS.get(node.op_type, ())
    result = OPERATORS[node.op_type](attributes, *[as_size(t) if t is not None and k in numbers else t for k, t in enumerate(tensors)])
    results = [plain(r) for r in (result if node.op_type in SEVERAL else (result,))]
    if tensors and can_be_size(node.op_type, attributes) and all(t is None or t.dtype == torch.int64 for t in tensors):
        sizes = plain(on_sizes(SIZE_OPERATORS[node.op_type], attributes, *[t if t is None else as_size(t) for t in tensors]))
        np.testing.assert_array_equal(sizes, results[0])
    return results


def plain(result: Any) -> np.ndarray:
    return np.array(result.tolist(), np.int64) if isinstance(result, np.ndarray) and result.dtype == object else np.asarray(result)


# The reference takes the length of 10.5 pixels for 10, rounds the sizes of SAME_LOWER down, divides by another norm,
# takes images for channels, fails at groups that are transposed, and knows the newer names of modes alone.
NOT_IN_REFERENCE = {"GridSample", "LRN", "ConvTranspose", "Upsample", "Resize", "MaxPool", "LpNormalization"}
FLAT = [(op, *case) for op, cases in CASES.items() for case in cases]


@pytest.mark.parametrize("case", range(len(FLAT)), ids=[f"{row[0]}-{k}" for k, row in enumerate(FLAT)])
def test_an_operator_computes_what_the_reference_computes(case: int) -> None:
    op, attributes, inputs, *rest = FLAT[case]
    inputs, opset = [np.asarray(a) for a in inputs], rest[0] if rest else 20
    graph = model(op, attributes, inputs, opset, outputs_of(op, attributes))
    if op in NOT_IN_REFERENCE or opset < 13:  # the reference knows the newer forms alone
        feeds = {name: a for name, a in zip(graph.graph.node[0].input, inputs, strict=True) if name}
        expected = open_session(graph, optimise=False).run(None, feeds)
    else:
        expected = ReferenceEvaluator(graph).run(None, {name: a for name, a in zip(graph.graph.node[0].input, inputs, strict=True) if name})
    got = ours(graph, inputs, opset)
    assert len(got) == len(expected)
    if op == "DynamicQuantizeLinear":  # one scale for each image of a batch
        got = [a.reshape(np.shape(b)) for a, b in zip(got, expected, strict=True)]
    for a, b in zip(got, expected, strict=True):
        assert a.shape == np.shape(b)
        if op not in ("QuantizeLinear", "ConvInteger", "DynamicQuantizeLinear", "MatMulInteger"):  # integers travel as float32
            assert a.dtype == np.asarray(b).dtype
        np.testing.assert_allclose(a.astype(np.float64), np.asarray(b).astype(np.float64), rtol=1e-5, atol=1e-5)


def test_every_operator_of_the_table_is_tested() -> None:
    assert set(CASES) == set(OPERATORS)
    assert set(SIZE_OPERATORS) <= set(OPERATORS)
    assert set(ATTRIBUTES) <= set(OPERATORS) and set(SIZE_INPUTS) <= set(OPERATORS)


# They change nothing that is computed here: of training alone, of the float8 types, or beside the one value that is accepted.
WITHOUT_EFFECT = {"momentum", "training_mode", "spatial", "stash_type", "saturate", "round_mode", "precision", "batch_dims"}
WITHOUT_EFFECT |= {"antialias", "exclude_outside", "keep_aspect_ratio_policy", "reduction", "output_dtype"}


def test_every_attribute_that_is_taken_is_tested() -> None:
    taken = {(op, key) for op, known in ATTRIBUTES.items() for key in known if key not in WITHOUT_EFFECT and known[key] != (0,)}
    reductions = {(op, key) for op, key in taken if op.startswith("Reduce")}  # one function for all of them
    tested = {(op, key) for op, attributes, *_ in FLAT for key in attributes}
    assert taken - tested <= reductions
    assert {key for _, key in reductions} <= {key for op, key in tested if op.startswith("Reduce")}


def schemas(op: str) -> dict[int, Any]:
    """One operator set for each version of the operator that a file of operator set 7 or newer can hold."""
    found = {}
    for opset in range(7, defs.onnx_opset_version() + 1):
        if defs.has(op, opset, ""):
            schema = defs.get_schema(op, opset, "")
            found[schema.since_version] = (opset, schema)
    return {opset: schema for opset, schema in found.values() if not schema.deprecated}


def test_every_input_of_every_version_of_an_operator_is_taken() -> None:
    for op, function in OPERATORS.items():
        for schema in schemas(op).values():
            if len(schema.inputs) and schema.inputs[-1].option.name != "Variadic":
                inspect.signature(function).bind({}, *schema.inputs)


STRANGE = {"INT": 77, "FLOAT": 77.0, "STRING": "strange", "INTS": [7, 7], "FLOATS": [7.0], "STRINGS": ["strange"]}


def refusals() -> list[tuple[str, int, str, Any]]:
    """(operator, operator set, attribute, value) for every attribute of the ONNX standard that does not take any value here."""
    return [
        (op, opset, key, STRANGE[kind])
        for op in OPERATORS
        for opset, schema in schemas(op).items()
        for key, attribute in schema.attributes.items()
        if (kind := attribute.type.name) in STRANGE and ATTRIBUTES.get(op, {}).get(key, ()) is not None
    ]


@pytest.mark.parametrize(("op", "opset", "key", "value"), refusals())
def test_what_is_not_implemented_is_refused_by_name(op: str, opset: int, key: str, value: Any) -> None:
    attributes, inputs, *_ = CASES[op][0]
    known = schemas(op)[opset].attributes
    attributes = {name: given for name, given in attributes.items() if name in known}
    graph = classifier_of([(op, {**attributes, key: value}, [np.asarray(a) for a in inputs])], opset)
    with pytest.raises(UsageError, match=rf"{op} 'it' with {key} = .* is not implemented; expected") as caught:
        OnnxGraph(graph, "file.onnx")
    assert "\n" not in str(caught.value)


def test_an_attention_with_keys_of_earlier_calls_is_refused() -> None:
    images, keys = f(2, 3, 8, 7), f(2, 3, 4, 7)
    graph = classifier_of([("Attention", {}, [images, images, images, np.zeros((8, 12), np.float32), keys, keys])], 23)
    with pytest.raises(UsageError, match=r"Attention 'it' with an input '0_4' is not implemented; expected its first 4 inputs alone"):
        OnnxGraph(graph, "file.onnx")


Row = tuple[str, dict[str, Any], list[np.ndarray]]


def classifier_of(rows: list[Row], opset: int) -> ModelProto:
    """images (n, 3, 8, 7) -> each operator, its other inputs stored -> logits (n, all their features)."""
    nodes, stored, logits = [], [], []
    for number, (op, attributes, inputs) in enumerate(rows):
        names = ["images", *[f"{number}_{k}" if array.size else "" for k, array in enumerate(inputs[1:], 1)]][: max(len(inputs), 1)]
        results = [f"{number}_o{k}" for k in range(outputs_of(op, attributes))]
        nodes.append(helper.make_node(op, names if inputs else [], results, f"it{number or ''}", **attributes))
        stored += [numpy_helper.from_array(array, name) for name, array in zip(names[1:], inputs[1:], strict=True) if name]
        for result in results:
            nodes.append(helper.make_node("Flatten", [result], [f"{result}_flat"]))
            logits.append(f"{result}_flat")
    nodes.append(helper.make_node("Concat", logits, ["all"], axis=1))
    nodes.append(
        helper.make_node("LeakyRelu", ["all"], ["logits"], alpha=1.0)
    )  # the identity, lest one operator's probabilities be the end
    source = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", *X.shape[1:]])
    result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "classifier", [source], [result], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def outputs_of(op: str, attributes: dict[str, Any]) -> int:
    if op == "DynamicQuantizeLinear":
        return 3
    return 1 if op not in SEVERAL else attributes.get("num_outputs") or 2


def per_image() -> dict[int, list[Row]]:
    """Operator set -> the cases that map each image of a batch to floating-point features of its own."""
    found: dict[int, list[Row]] = {}
    for op, attributes, inputs, *rest in FLAT:
        row, opset = (op, attributes, [np.asarray(a) for a in inputs]), rest[0] if rest else 20
        if op == "DequantizeLinear" or not inputs or row[2][0].shape != X.shape or row[2][0].dtype != np.float32:
            continue
        try:
            session = open_session(classifier_of([row], opset), optimise=False)
            batch, single = (session.run(None, {"images": images})[0] for images in (X, X[:1]))
        except (ExportError, Fail, InvalidArgument, RuntimeException):  # integers for features, or a shape of its own for every batch
            continue
        if batch.shape[0] == len(X) and single.shape[0] == 1 and np.allclose(batch[:1], single, atol=1e-5):
            found.setdefault(opset, []).append(row)
    return found


PER_IMAGE = per_image()


def test_most_operators_are_per_image() -> None:
    tried = {op for rows in PER_IMAGE.values() for op, *_ in rows}
    assert len(tried) >= 75, sorted(set(OPERATORS) - tried)


@pytest.mark.parametrize("opset", PER_IMAGE)
def test_every_operator_goes_through_the_exporter_with_a_free_batch(opset: int) -> None:
    graph = classifier_of(PER_IMAGE[opset], opset)
    twin = OnnxGraph(graph).eval()
    theirs, ours_again = open_session(graph, optimise=False), open_session(export_onnx(twin, (3, 8, 7)), optimise=False)
    for n in (1, 2, 5):
        images = f(n, 3, 8, 7)
        expected = theirs.run(None, {"images": images})[0]
        with torch.no_grad():
            np.testing.assert_allclose(twin(torch.from_numpy(images)).numpy(), expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(ours_again.run(None, {"images": images})[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("opset", PER_IMAGE)
@pytest.mark.parametrize("images", [X, np.zeros_like(X), np.full_like(X, 0.5)], ids=["any", "black", "grey"])
def test_no_operator_gives_a_gradient_that_is_not_finite(opset: int, images: np.ndarray) -> None:
    for row in PER_IMAGE[opset]:
        x = torch.from_numpy(images.copy()).requires_grad_()
        logits = OnnxGraph(classifier_of([row], opset)).eval()(x)
        if row[0] == "Hardmax":  # which has none
            continue
        (logits.nan_to_num(0, 0, 0) * torch.linspace(-1, 1, logits.shape[1])).sum().backward()
        assert x.grad is not None and bool(x.grad.isfinite().all()), row[0]


def gradient_of(nodes: list[Any], stored: dict[str, np.ndarray], images: np.ndarray, opset: int = 20) -> np.ndarray:
    """The gradient of the sum of all results."""
    nodes = [*nodes, helper.make_node("Flatten", ["y"], ["logits"])]
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *images.shape[1:]])
    result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "steps", [source], [result], [numpy_helper.from_array(a, name) for name, a in stored.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    x = torch.from_numpy(images).requires_grad_()
    logits = OnnxGraph(model).eval()(x)
    np.testing.assert_allclose(logits.detach().numpy(), open_session(model, optimise=False).run(None, {"x": images})[0], rtol=1e-6)
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    return gradient.numpy()


N = helper.make_node


def everywhere(x: np.ndarray) -> np.ndarray:
    return np.ones_like(x)


TO_INTEGER, TO_FLOAT = {"to": TensorProto.INT32}, {"to": TensorProto.FLOAT}
# A step, and where its gradient is 1; 0 elsewhere.
STEPS = {
    "Round": ([N("Round", ["x"], ["y"])], everywhere),
    "Floor": ([N("Floor", ["x"], ["y"])], everywhere),
    "Ceil": ([N("Ceil", ["x"], ["y"])], everywhere),
    "Sign": ([N("Sign", ["x"], ["y"])], lambda x: np.abs(x) < 1),
    "a cast to integers and back": ([N("Cast", ["x"], ["i"], **TO_INTEGER), N("Cast", ["i"], ["y"], **TO_FLOAT)], everywhere),
    "types taken from other tensors": ([N("CastLike", ["x", "two"], ["i"]), N("CastLike", ["i", "s"], ["y"])], everywhere),
    "integers that are dequantized": (
        [N("Div", ["x", "step"], ["d"]), N("Cast", ["d"], ["i"], to=TensorProto.INT32), N("DequantizeLinear", ["i", "step"], ["y"])],
        everywhere,
    ),
    "codes cast there and back": (
        [
            N("QuantizeLinear", ["x", "step", "z"], ["q"]),
            N("Cast", ["q"], ["i"], **TO_INTEGER),
            N("Cast", ["i"], ["j"], to=TensorProto.INT8),
            N("DequantizeLinear", ["j", "step", "z"], ["y"]),
        ],
        lambda x: np.abs(x) < 1.2,
    ),
    "integers in between": (
        [N("Cast", ["x"], ["i"], **TO_INTEGER), N("Add", ["i", "two"], ["j"]), N("Cast", ["j"], ["y"], **TO_FLOAT)],
        everywhere,
    ),
    "DoReFa": (
        [N("Clip", ["x", "zero", "one"], ["c"]), N("Mul", ["c", "s"], ["m"]), N("Round", ["m"], ["r"]), N("Div", ["r", "s"], ["y"])],
        lambda x: (x > 0) & (x < 1),
    ),
    "fake quantization": (
        [N("QuantizeLinear", ["x", "step", "z"], ["q"]), N("DequantizeLinear", ["q", "step", "z"], ["y"])],
        lambda x: np.abs(x) < 1.2,
    ),
}
STORED = {"two": np.array(2, np.int32), "zero": np.float32(0), "one": np.float32(1), "s": np.float32(15)}
STORED |= {"step": np.float32(0.01), "z": np.int8(0)}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_passes_the_gradient_straight_through(name: str) -> None:
    nodes, passes = STEPS[name]
    used = {key for node in nodes for key in node.input}
    images = (f(2, 3, 4, 5) * 2).astype(np.float32)
    images = images[np.abs(np.abs(images) - 1.25) > 0.1].reshape(-1)[:80].reshape(2, 2, 4, 5)  # not at the bounds of int8
    gradient = gradient_of(nodes, {k: np.asarray(v) for k, v in STORED.items() if k in used}, images)
    np.testing.assert_allclose(gradient, passes(images).astype(np.float32), rtol=1e-5)


def quantized(name: str) -> list[Any]:
    """Codes of `name` and back."""
    return [N("QuantizeLinear", [name, "tiny", "z"], [f"{name}_q"]), N("DequantizeLinear", [f"{name}_q", "tiny", "z"], [f"{name}_dq"])]


MAGNITUDE = [N("Sign", ["x"], ["sign"]), N("Abs", ["x"], ["a"])]
MEAN = [N("ReduceMean", ["a", "axes"], ["mean"]), N("Mul", ["sign", "mean"], ["y"])]
# What a sign multiplies, and the gradient.
SIGNED = {
    "root": ([N("Sqrt", ["a"], ["r"]), N("Mul", ["sign", "r"], ["y"])], lambda x: 0.5 / np.sqrt(np.abs(x))),
    "soft threshold": (
        [N("Sub", ["a", "third"], ["b"]), N("Relu", ["b"], ["r"]), N("Mul", ["r", "sign"], ["y"])],
        lambda x: np.abs(x) > STORED["third"],
    ),
    "magnitude": ([N("Mul", ["x", "sign"], ["y"])], np.sign),
    "quantized": ([*quantized("sign"), *quantized("a"), N("Mul", ["sign_dq", "a_dq"], ["y"])], everywhere),
    "mean": (
        MEAN,
        lambda x: (np.abs(x) < 1) * np.abs(x).mean(axis=(2, 3), keepdims=True) + np.sign(x) * np.sign(x).mean((2, 3), keepdims=True),
    ),
}
STORED |= {"third": np.float32(0.3), "tiny": np.float32(2**-6), "axes": i(2, 3)}


@pytest.mark.parametrize("name", SIGNED)
def test_a_sign_that_multiplies_a_magnitude_adds_nothing_to_its_gradient(name: str) -> None:
    """sign(x) f(|x|) has the derivative f'(|x|): a sign read as clip(x, -1, 1), as one that stands alone is, would add f(|x|)."""
    nodes, expected = SIGNED[name]
    nodes = [node for node in MAGNITUDE if any(node.output[0] in later.input for later in nodes)] + nodes
    used = {key for node in nodes for key in node.input}
    images = f(2, 3, 4, 5)
    images = np.where(np.abs(images) < 0.05, np.float32(0.05), np.clip(images, -1.5, 1.5))
    gradient = gradient_of(nodes, {k: np.asarray(v) for k, v in STORED.items() if k in used}, images)
    np.testing.assert_allclose(gradient, expected(images).astype(np.float32), rtol=1e-4, atol=1e-6)


def test_integers_that_are_read_as_an_index_stay_integers() -> None:
    nodes = [N("Cast", ["x"], ["i"], to=TensorProto.INT64), N("Gather", ["table", "i"], ["t"]), N("Mul", ["t", "x"], ["y"])]
    gradient = gradient_of(nodes, {"table": np.array([5, 7], np.float32)}, np.abs(f(1, 2, 2, 2)) % 1.9)
    assert set(np.unique(gradient)) <= {5.0, 7.0}


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
        *(  # 10 pixels x 0.7 are 7 in float32, as the file has it, and 6.9999 in doubles
            (
                "Resize",
                {"mode": mode, "coordinate_transformation_mode": "half_pixel"},
                [f(1, 2, 10, 20), np.array([], np.float32), np.array([1, 1, scale, scale], np.float32)],
                20,
            )
            for mode in ("nearest", "linear", "cubic")
            for scale in (0.7, 0.9)
        ),
        ("Upsample", {"mode": "nearest"}, [f(1, 2, 10, 10), np.array([1, 1, 1.4, 1.1], np.float32)], 9),
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
