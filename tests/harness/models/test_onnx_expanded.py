"""Operators of deployed files: each against onnxruntime, whose they are, and with the gradient of the float operator inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from export.onnx import INPUT, export_onnx
from export.session import open_session
from harness.data.dataset import to_tensor
from harness.data.sample import load_sample
from harness.errors import UsageError
from harness.models import onnx_operators
from harness.models.load import load_twin
from harness.models.onnx_expanded import OF_THE_STANDARD, OWN_DOMAIN, RULES
from harness.models.onnx_graph import read_onnx

IMAGES = to_tensor(load_sample()[0].images[:64]).numpy()
RNG = np.random.default_rng(0)
X = RNG.random((2, 4, 6, 6)).astype(np.float32)
SCALE, ZERO = np.array(1 / 255, np.float32), np.array(3, np.uint8)  # of the images, when they come as integers
WEIGHT = RNG.integers(-100, 100, (6, 4, 3, 3)).astype(np.int8)
PER_CHANNEL, ZEROS = (RNG.random(6) / 50 + 0.01).astype(np.float32), np.zeros(6, np.int8)
MATRIX = RNG.integers(-100, 100, (144, 5)).astype(np.int8)
Y_SCALE, Y_ZERO = np.array(0.11, np.float32), np.array(120, np.uint8)
BIAS = RNG.integers(-3000, 3000, 6).astype(np.int32)


def f(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def bits(shape: tuple[int, ...]) -> np.ndarray:
    return RNG.integers(0, 256, shape).astype(np.uint8)


CODES, FLAT_CODES, FLAT = "codes", "flat codes", "flat"  # the images as uint8, and both with one axis
Q, K = [SCALE, ZERO], {"kernel_shape": [2, 2]}
OF_CODES = [CODES, *Q]
OF_FLAT = [FLAT_CODES, *Q]
COLUMNS = (np.full(5, 0.02, np.float32), np.zeros(5, np.int8))
# operator -> (inputs, attributes): what names the images in one of their forms, or a stored array; None for one that is left out
CASES: dict[str, list[tuple[list[Any], dict[str, Any]]]] = {
    "QLinearConv": [
        ([*OF_CODES, WEIGHT, PER_CHANNEL, ZEROS, Y_SCALE, Y_ZERO, BIAS], {"pads": [1, 0, 1, 2], "strides": [2, 1]}),
        ([*OF_CODES, WEIGHT[:, :2], np.array(0.02, np.float32), np.array(7, np.int8), Y_SCALE, Y_ZERO], {"group": 2}),
    ],
    "QLinearMatMul": [([*OF_FLAT, MATRIX, np.array(0.02, np.float32), np.array(-4, np.int8), Y_SCALE, Y_ZERO], {})],
    "QGemm": [
        ([*OF_FLAT, MATRIX, *COLUMNS, BIAS[:5], Y_SCALE, Y_ZERO], {}),
        ([*OF_FLAT, MATRIX.T.copy(), *COLUMNS, BIAS[:5]], {"transB": 1, "alpha": 0.5}),
        ([*OF_FLAT, MATRIX, np.array(0.02, np.float32), np.array(2, np.int8), None, Y_SCALE, Y_ZERO], {}),
    ],
    "QLinearAdd": [([*OF_CODES, bits((4, 1, 1)), np.array(0.01, np.float32), np.array(9, np.uint8), Y_SCALE, Y_ZERO], {})],
    "QLinearMul": [([*OF_CODES, *OF_CODES, np.array(1 / 200, np.float32), ZERO], {})],
    "QLinearAveragePool": [([*OF_CODES, np.array(1 / 200, np.float32), ZERO], {**K, "strides": [2, 2], "pads": [1, 1, 1, 1]})],
    "QLinearGlobalAveragePool": [([*OF_CODES, np.array(1 / 300, np.float32), ZERO], {})],
    "QLinearLeakyRelu": [([CODES, SCALE, np.array(99, np.uint8), np.array(1 / 200, np.float32), ZERO], {"alpha": 0.2})],
    "QLinearSigmoid": [([CODES, np.array(0.03, np.float32), np.array(99, np.uint8), np.array(1 / 255, np.float32), ZERO], {})],
    "QLinearSoftmax": [([CODES, np.array(0.03, np.float32), ZERO, np.array(1 / 256, np.float32), ZERO], {"axis": -1, "opset": 13})],
    "QLinearConcat": [([Y_SCALE, Y_ZERO, *OF_CODES, CODES, np.array(0.2, np.float32), Y_ZERO], {"axis": 1})],
    "QuantizeLinear": [(["images", SCALE, ZERO], {}), (["images", np.array(1e-4, np.float32), np.array(77, np.uint16)], {})],
    "DequantizeLinear": [(OF_CODES, {})],
    "MatMulIntegerToFloat": [
        ([FLAT_CODES, MATRIX, SCALE, COLUMNS[0], ZERO, COLUMNS[1], f(5)], {}),
        ([FLAT_CODES, MATRIX, SCALE, SCALE], {}),
    ],
    "DynamicQuantizeMatMul": [([FLAT, MATRIX, *COLUMNS, f(5)], {}), ([FLAT, MATRIX, SCALE], {})],
    "MatMulNBits": [
        ([FLAT, bits((5, 9, 8)), f(45)], {"K": 144, "N": 5, "bits": 4, "block_size": 16}),
        ([FLAT, bits((5, 9, 8)), f(45), bits((25,)), None, f(5)], {"K": 144, "N": 5, "bits": 4, "block_size": 16}),
        ([FLAT, bits((5, 5, 32)), f(25), bits((25,))], {"K": 144, "N": 5, "bits": 8, "block_size": 32}),
    ],
    "FusedConv": [
        (["images", f(6, 4, 3, 3), f(6)], {"activation": "Relu"}),
        (["images", f(4, 4, 3, 3), f(4), "images"], {"activation": "LeakyRelu", "activation_params": [0.3], "pads": [1, 1, 1, 1]}),
        (["images", f(6, 4, 3, 3)], {"activation": "Clip", "activation_params": [-0.5, 0.5]}),
        (["images", f(6, 4, 3, 3)], {"activation": "HardSigmoid", "activation_params": [0.1, 0.4]}),
    ],
    "FusedGemm": [
        ([FLAT, f(5, 144), f(5)], {"transB": 1, "activation": "Relu"}),
        ([FLAT, f(144, 5), f(5)], {"activation": "LeakyRelu", "activation_alpha": 0.3, "alpha": 0.5}),
    ],
    "FusedMatMul": [([FLAT, f(5, 144)], {"transB": 1, "alpha": 0.5}), (["images", f(2, 4, 5, 6)[:1]], {"transA": 1, "transB": 1})],
    "Gelu": [(["images"], {})],
    "QuickGelu": [(["images"], {}), (["images"], {"alpha": 1.1})],
    "FastGelu": [(["images"], {}), (["images", f(6)], {})],
    "BiasGelu": [(["images", f(6)], {})],
    "SkipLayerNormalization": [(["rows", "rows", f(36), f(36), f(36)], {"epsilon": 1e-3}), (["rows", "rows", f(36)], {})],
}
# Where among its inputs an operator with an integer result has the result's scale, if it is not the fourth.
RESULT_SCALE = {"QLinearConv": 6, "QLinearMatMul": 6, "QGemm": 7, "QLinearAdd": 6, "QLinearMul": 6, "QLinearConcat": 0, "QuantizeLinear": 1}
ROWS_OF_CASES = [(kind, *case) for kind, cases in CASES.items() for case in cases]


def graph_of(kind: str, inputs: list[Any], attributes: dict[str, Any]) -> ModelProto:
    """Images (n, 4, 6, 6) -> the operator, on one of their forms -> logits (n, features)."""
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "s", "z"], [CODES]),
        helper.make_node("Flatten", [CODES], [FLAT_CODES]),
        helper.make_node("Flatten", ["images"], [FLAT]),
        helper.make_node("Reshape", ["images", "shape"], ["rows"]),
    ]
    stored = [
        numpy_helper.from_array(SCALE, "s"),
        numpy_helper.from_array(ZERO, "z"),
        numpy_helper.from_array(np.array([0, 4, 36]), "shape"),
    ]
    names = []
    for place, value in enumerate(inputs):
        if isinstance(value, np.ndarray):
            stored.append(numpy_helper.from_array(value, f"i{place}"))
        names.append(value if isinstance(value, str) else "" if value is None else f"i{place}")
    nodes.append(helper.make_node(kind, names, ["result"], "it", domain="" if kind in OF_THE_STANDARD else OWN_DOMAIN, **attributes))
    place = RESULT_SCALE.get(kind, 3 if kind.startswith("QLinear") else len(names))
    integers = place < len(names)
    if integers:
        nodes.append(helper.make_node("DequantizeLinear", ["result", *names[place : place + 2]], ["real"]))
    nodes.append(helper.make_node("Flatten", ["real" if integers else "result"], ["flat result"]))
    nodes.append(helper.make_node("LeakyRelu", ["flat result"], ["logits"], alpha=1.0))  # lest a softmax be the end
    source = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", *X.shape[1:]])
    result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", "features"])
    needed, kept = {"logits"}, []
    for node in reversed(nodes):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    graph = helper.make_graph(kept[::-1], "it", [source], [result], [tensor for tensor in stored if tensor.name in needed])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid(OWN_DOMAIN, 1)], ir_version=10)


def answers(model: ModelProto, images: np.ndarray, *, one_by_one: bool) -> np.ndarray:
    """The logits that onnxruntime gives, in one request or one for each image."""
    session, name = open_session(model, optimise=False), model.graph.input[0].name
    parts = np.split(images, len(images) if one_by_one else 1)
    return np.concatenate([session.run(None, {name: part})[0] for part in parts])


def test_every_operator_is_tested() -> None:
    assert set(CASES) == set(RULES)


@pytest.mark.parametrize("case", range(len(ROWS_OF_CASES)), ids=[f"{row[0]}-{k}" for k, row in enumerate(ROWS_OF_CASES)])
def test_an_operator_computes_what_onnxruntime_computes(case: int, tmp_path: Path) -> None:
    kind, inputs, attributes = ROWS_OF_CASES[case]
    model = graph_of(kind, inputs, attributes)
    onnx.save(model, tmp_path / "it.onnx")
    expected = answers(model, X, one_by_one=kind.startswith("Dynamic"))
    images = torch.from_numpy(X).requires_grad_()
    got = read_onnx(tmp_path / "it.onnx", deployed=True).eval()(images)
    apart = np.abs(got.detach().numpy() - expected) / np.abs(expected).max()
    assert got.shape == expected.shape and np.ptp(expected) > 0
    assert (apart > 1e-4).mean() <= (0.02 if kind in RESULT_SCALE or kind.startswith("QLinear") else 0)  # a tie, rounded the other way
    (gradient,) = torch.autograd.grad((got * torch.linspace(-1, 1, got.shape[1])).sum(), images)
    assert bool(gradient.isfinite().all()) and float((gradient != 0).float().mean()) > 0.5


@pytest.mark.parametrize(
    ("kind", "place", "value", "attributes", "message"),
    [
        ("QLinearGlobalAveragePool", 0, CODES, {"channels_last": 1}, "with channels_last = 1 is not implemented; expected channels first"),
        ("QLinearSoftmax", 0, CODES, {"opset": 12}, "of an operator set before 13"),
        ("FusedMatMul", 0, FLAT, {"transBatchA": 1}, "with axes of the batch moved"),
        ("MatMulNBits", 4, np.arange(144).astype(np.int32), {}, "with an order of its columns"),
        ("MatMulNBits", 0, FLAT, {"bits": 3}, "of 3 bits"),
        ("MatMulNBits", 2, FLAT, {}, "is computed; expected a stored tensor"),
    ],
)
def test_a_form_that_is_not_implemented_is_refused(
    kind: str, place: int, value: Any, attributes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    inputs, known = CASES[kind][-1]
    inputs = [*inputs[:place], *[None] * (place - len(inputs)), value, *inputs[place + 1 :]]
    onnx.save(graph_of(kind, inputs, {**known, **attributes}), tmp_path / "it.onnx")
    with pytest.raises(UsageError, match=rf"it\.onnx: .*{kind} 'it'.*{message}"):
        read_onnx(tmp_path / "it.onnx", deployed=True)


@given(case=st.integers(0, len(ROWS_OF_CASES) - 1), places=st.lists(st.tuples(st.integers(0), st.integers(1, 255)), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_a_damaged_file_is_refused_in_one_line_or_read(
    case: int, places: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = bytearray(graph_of(*ROWS_OF_CASES[case]).SerializeToString())
    for place, mask in places:
        data[place % len(data)] ^= mask
    path = tmp_path_factory.mktemp("damaged") / "it.onnx"
    path.write_bytes(data)
    try:
        read_onnx(path, deployed=True)
    except UsageError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("MatMulNBits", {"block_size": 0}),
        ("MatMulNBits", {"bits": 0}),
        ("MatMulNBits", {"N": -1}),
        ("QGemm", {"beta": 2.0}),
        ("FusedConv", {"activation": 3}),
    ],
)
def test_attributes_that_cannot_be_are_refused(kind: str, attributes: dict[str, Any], tmp_path: Path) -> None:
    inputs, known = CASES[kind][0]
    onnx.save(graph_of(kind, inputs, {**known, **attributes}), tmp_path / "it.onnx")
    with pytest.raises(UsageError, match=rf"cannot write out {kind} 'it': ."):
        read_onnx(tmp_path / "it.onnx", deployed=True)


def test_a_small_file_does_not_become_a_large_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of four bits that many nodes read are written out for each of them."""
    model = graph_of("MatMulNBits", *CASES["MatMulNBits"][0])
    node = next(node for node in model.graph.node if node.op_type == "MatMulNBits")
    for number in range(3):
        copy = model.graph.node.add()
        copy.CopyFrom(node)
        copy.output[0] = f"more{number}"
    onnx.save(model, tmp_path / "it.onnx")
    read_onnx(tmp_path / "it.onnx", deployed=True)
    monkeypatch.setattr(onnx_operators, "MAX_ELEMENTS", 3 * 144 * 5)
    with pytest.raises(UsageError, match=r"cannot write out MatMulNBits 'it': a tensor of 2,880 elements; expected at most 2,160"):
        read_onnx(tmp_path / "it.onnx", deployed=True)


def test_a_file_that_a_network_is_taken_from_may_not_have_them(tmp_path: Path) -> None:
    quantized = r"cannot be read back: {}\. It was quantized: take the file from before\. Supported: Abs,"
    for kind, what in (("Gelu", "come from onnxruntime"), ("QLinearMatMul", quantized.format("QLinearMatMul"))):
        onnx.save(graph_of(kind, *CASES[kind][0]), tmp_path / "it.onnx")
        with pytest.raises(UsageError, match=what):
            read_onnx(tmp_path / "it.onnx")


class Pictures(CalibrationDataReader):
    """Batches of the sample's images."""

    def __init__(self) -> None:
        self.batches = iter(np.split(IMAGES[:32], 4))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {INPUT: batch}


STATIC: dict[str, dict[str, Any]] = {
    "operators": {"quant_format": QuantFormat.QOperator},
    "operators, signed, per channel": {"quant_format": QuantFormat.QOperator, "activation_type": QuantType.QInt8, "per_channel": True},
    "activations of 16 bits": {"activation_type": QuantType.QUInt16},
    "weights of 4 bits": {"weight_type": QuantType.QInt4},
}
DYNAMIC: dict[str, dict[str, Any]] = {"dynamic": {"weight_type": QuantType.QUInt8}, "dynamic, per channel": {"per_channel": True}}


@pytest.mark.parametrize("way", [*STATIC, *DYNAMIC])
def test_what_onnxruntime_quantizes_is_read_back(way: str, tmp_path: Path) -> None:
    """The logits of a whole network, to what sums in another order make of eight bits, and a gradient on almost every pixel."""
    whole, path = tmp_path / "float.onnx", tmp_path / "it.onnx"
    onnx.save(export_onnx(load_twin("resnet8").module, (3, 32, 32)), whole)
    if way in STATIC:
        quantize_static(whole, path, Pictures(), **STATIC[way])
    else:
        quantize_dynamic(whole, path, **DYNAMIC[way])
    expected = answers(onnx.load(path), IMAGES, one_by_one=way in DYNAMIC)
    images = torch.from_numpy(IMAGES).requires_grad_()
    logits = read_onnx(path, deployed=True).eval()(images)
    got = logits.detach().numpy()
    assert float(np.abs(got - expected).mean()) < 0.01 * np.ptp(expected)
    assert (got.argmax(1) == expected.argmax(1)).mean() >= 0.98
    (gradient,) = torch.autograd.grad(logits.square().sum(), images)
    assert float((gradient != 0).float().mean()) > 0.9


def test_activations_of_four_bits_are_refused(tmp_path: Path) -> None:
    model = graph_of("QuantizeLinear", ["images", SCALE, ZERO], {})
    model.graph.initializer[[tensor.name for tensor in model.graph.initializer].index("i2")].CopyFrom(
        helper.make_tensor("i2", TensorProto.UINT4, [], [3])
    )
    onnx.save(model, tmp_path / "it.onnx")
    with pytest.raises(UsageError, match=r"QuantizeLinear 'it' to the type of 'i2' is not implemented; expected one of 8 or 16 bits"):
        read_onnx(tmp_path / "it.onnx", deployed=True)
