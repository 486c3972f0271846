"""An ONNX graph read back is the network that was exported: same logits and gradients, exportable again; Q/DQ is onnxruntime's."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor, nn
from torchvision import models
from torchvision.models.mobilenetv3 import InvertedResidualConfig

from export.calibration import Calibration
from export.identity import module_sha256
from export.int8 import quantize_int8
from export.onnx import export_onnx
from export.session import to_input
from export.trt_int8 import quantize_trt_int8
from harness.errors import UsageError
from harness.models.onnx_graph import OnnxGraph, read_onnx
from harness.models.onnx_quantize import dequantize, quantize
from harness.models.resnet import resnet8

pytestmark = pytest.mark.slow(40)


def settled(network: nn.Module, size: int) -> nn.Module:
    """The network after its batch norms saw some images: an untrained one returns next to nothing."""
    network.train()
    with torch.no_grad():
        for _ in range(8):
            network(torch.rand(16, 3, size, size))
    return network.eval()


class Attention(nn.Module):
    """A transformer block over patches with a class token: Shape, Expand, Concat and Reshape with a symbolic batch."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.token = nn.Conv2d(3, 16, 8, 8), nn.Parameter(torch.randn(1, 1, 16))
        self.block, self.head = nn.TransformerEncoderLayer(16, 2, 32, 0.0, "gelu", batch_first=True), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        return self.head(self.block(x)[:, 0])


def mobilenet() -> nn.Module:
    blocks = [
        InvertedResidualConfig(16, 3, 16, 16, True, "RE", 2, 1, 1.0),
        InvertedResidualConfig(16, 5, 32, 24, True, "HS", 1, 1, 1.0),
    ]
    return models.MobileNetV3(blocks, 32, num_classes=6)


def test_two_graphs_with_the_same_weights_have_two_hashes(tmp_path: Path) -> None:
    """Adversarial sets are kept by this hash: those of one graph must not be taken for another's."""
    onnx.save(export_onnx(resnet8(10).eval(), (3, 32, 32)), tmp_path / "one.onnx")
    changed = onnx.load(tmp_path / "one.onnx")
    next(node for node in changed.graph.node if node.op_type == "Relu").op_type = "Tanh"
    onnx.save(changed, tmp_path / "operator.onnx")
    changed = onnx.load(tmp_path / "one.onnx")
    gemm = next(node for node in changed.graph.node if node.op_type == "Gemm")
    next(attribute for attribute in gemm.attribute if attribute.name == "alpha").f = 2.0
    onnx.save(changed, tmp_path / "attribute.onnx")
    hashes = [module_sha256(read_onnx(tmp_path / f"{name}.onnx")) for name in ("one", "operator", "attribute", "one")]
    assert len(set(hashes)) == 3 and hashes[0] == hashes[3]


# name -> (network, input size): small members of torchvision's families
NETS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "resnet8": (resnet8, 32),
    "mobilenet_v3": (mobilenet, 32),
    "squeezenet": (lambda: models.squeezenet1_1(num_classes=6), 32),
    "shufflenet_v2": (lambda: models.ShuffleNetV2([2, 1, 1], [8, 16, 24, 32, 32], num_classes=6), 32),
    "densenet": (lambda: models.DenseNet(8, (2, 2), 16, num_classes=6), 32),
    "attention": (Attention, 32),
    "swin": (lambda: models.SwinTransformer([4, 4], 16, [2], [2], [2, 2], num_classes=6), 16),
}


@lru_cache
def exported(name: str) -> tuple[nn.Module, ModelProto]:
    """An untrained network and its export."""
    make, size = NETS[name]
    torch.manual_seed(0)
    network = settled(make(), size)
    return network, export_onnx(network, (3, size, size))


def run(model: ModelProto, images: Tensor, optimised: bool = False) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]


def input_gradient(network: nn.Module, images: Tensor) -> Tensor:
    x = images.clone().requires_grad_()
    logits = network(x)
    (gradient,) = torch.autograd.grad((logits * torch.linspace(-1, 1, logits.shape[1])).sum(), x)
    return gradient


@pytest.mark.parametrize("name", NETS)
def test_a_network_comes_back_as_it_was(name: str) -> None:
    (network, model), size = exported(name), NETS[name][1]
    graph = OnnxGraph(model).eval()
    images = torch.rand(3, 3, size, size)
    with torch.no_grad():
        logits = graph(images)
    assert graph.input_shape == [3, size, size]
    np.testing.assert_allclose(logits.numpy(), run(model, images), atol=1e-4, rtol=1e-4)
    expected = input_gradient(network, images)
    assert float(expected.abs().max()) > 0
    np.testing.assert_allclose(input_gradient(graph, images).numpy(), expected.numpy(), atol=1e-4 * float(expected.abs().max()))
    if name == "attention":  # sizes computed in the graph
        again = export_onnx(graph, (3, size, size))
        np.testing.assert_allclose(run(again, images[:2]), logits[:2].numpy(), atol=1e-4, rtol=1e-4)


def shape_graph() -> ModelProto:
    """Flatten as old exporters wrote it: Shape -> Gather -> Unsqueeze -> Concat -> Reshape, then arithmetic on the sizes."""
    constants = {
        "zero": np.array(0, np.int64),
        "front": np.array([0], np.int64),
        "rest": np.array([-1], np.int64),
        "two": np.array([2], np.int64),
        "w": np.random.default_rng(0).standard_normal((24, 4)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "front"], ["n1"]),
        helper.make_node("Mul", ["n1", "two"], ["n2"]),
        helper.make_node("Div", ["n2", "two"], ["n3"]),
        helper.make_node("Concat", ["n3", "rest"], ["flat"], axis=0),
        helper.make_node("Reshape", ["x", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows", "w"], ["logits"]),
    ]
    return classifier(nodes, constants, (None, 2, 4, 3))


def classifier(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], shape: tuple[int | None, ...], outputs: int = 1, opset: int = 17
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n" if s is None else s for s in shape])],
        [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None) for node in nodes[-outputs:]],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def test_sizes_computed_in_the_graph_stay_symbolic() -> None:
    graph = OnnxGraph(shape_graph()).eval()
    again = export_onnx(graph, (2, 4, 3))
    for n in (1, 2, 5):
        images = torch.rand(n, 2, 4, 3)
        expected = run(shape_graph(), images)
        np.testing.assert_allclose(graph(images).detach().numpy(), expected, atol=1e-6)
        np.testing.assert_allclose(run(again, images), expected, atol=1e-6)


def test_weights_are_parameters_and_statistics_are_not() -> None:
    network, model = exported("resnet8")
    graph = OnnxGraph(model)
    assert {p.dtype for p in graph.parameters()} == {torch.float32}
    kernels = sum(p.numel() for p in network.parameters() if p.ndim > 1)
    assert kernels == sum(p.numel() for p in graph.parameters() if p.ndim in (2, 4) and p.numel() > 64)
    norm = [helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"])]
    graph = OnnxGraph(classifier(norm, {k: np.ones(3, np.float32) for k in "sbmv"}, (None, 3, 2, 2)))
    assert len(list(graph.parameters())) == len(list(graph.buffers())) == 2


class Images(CalibrationDataReader):
    def __init__(self, images: Tensor) -> None:
        self.batches = iter(images.numpy()[:, None])

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"images": batch}


def quantized(folder: Path, activation: QuantType, per_channel: bool) -> ModelProto:
    """resnet8 as onnxruntime's own tool quantizes it."""
    onnx.save(exported("resnet8")[1], folder / "float.onnx")
    quantize_static(
        folder / "float.onnx",
        folder / "int8.onnx",
        Images(torch.rand(8, 3, 32, 32)),
        quant_format=QuantFormat.QDQ,
        activation_type=activation,
        weight_type=QuantType.QInt8,
        per_channel=per_channel,
    )
    return onnx.load(folder / "int8.onnx")


def scales(model: ModelProto) -> list[TensorProto]:
    names = {node.input[1] for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    return [tensor for tensor in model.graph.initializer if tensor.name in names]


QUANTIZATIONS = [(QuantType.QUInt8, True), (QuantType.QInt8, False)]


@pytest.mark.parametrize(("activation", "per_channel"), QUANTIZATIONS)
def test_a_quantized_graph_is_onnxruntime_s_to_the_bit_where_sums_are_exact(
    activation: QuantType, per_channel: bool, tmp_path: Path
) -> None:
    """With powers of two for scales no sum is rounded, so that the order of summation cannot matter."""
    model = quantized(tmp_path, activation, per_channel)
    for tensor in scales(model):
        power = np.exp2(np.round(np.log2(numpy_helper.to_array(tensor)))).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(power, tensor.name))
    images = torch.rand(32, 3, 32, 32)
    with torch.no_grad():
        logits = OnnxGraph(model).eval()(images)
    expected = run(model, images)
    assert len(np.unique(expected)) > 20
    assert np.array_equal(logits.numpy(), expected)


@pytest.mark.parametrize(("activation", "per_channel"), QUANTIZATIONS)
def test_a_quantized_graph_is_a_twin_with_gradients(activation: QuantType, per_channel: bool, tmp_path: Path) -> None:
    model = quantized(tmp_path, activation, per_channel)
    twin = read_onnx(tmp_path / "int8.onnx").eval()
    images = torch.rand(32, 3, 32, 32)
    with torch.no_grad():
        logits = twin(images).numpy()
    expected = run(model, images)
    last = next(node for node in model.graph.node if node.output[0] == model.graph.output[0].name)
    step = float(next(numpy_helper.to_array(tensor) for tensor in scales(model) if tensor.name == last.input[1]))
    assert np.abs(logits - expected).max() <= 2.01 * step, "a sum rounded differently may move an activation by one step"
    assert np.mean(logits == expected) > 0.9
    gradient, smooth = input_gradient(twin, images), input_gradient(exported("resnet8")[0], images)
    assert float((gradient != 0).float().mean()) > 0.9
    assert float(torch.cosine_similarity(gradient.flatten(), smooth.flatten(), 0)) > 0.5


@given(st.lists(st.floats(-300, 300, width=32), min_size=1, max_size=30), st.floats(2**-8, 2, width=32), st.integers(-128, 127))
def test_quantizing_rounds_to_even_saturates_and_passes_the_gradient_inside_the_range(values: list[float], scale: float, zero: int) -> None:
    x = torch.tensor(values, requires_grad=True)
    point = torch.tensor(zero, dtype=torch.int8)
    steps = quantize({}, x, torch.tensor(scale), point)
    exact = np.clip(np.rint(x.detach().numpy() / np.float32(scale)) + zero, -128, 127)
    assert np.array_equal(steps.detach().numpy(), exact)
    dequantize({}, steps, torch.tensor(scale), point).sum().backward()
    inside = np.abs(np.rint(x.detach().numpy() / np.float32(scale)) + zero + 0.5) <= 127.5
    np.testing.assert_allclose(x.grad.numpy(), inside.astype(np.float32), rtol=1e-6)


@pytest.mark.parametrize("apart", [False, True], ids=["in the pool", "as a Pad of -infinity"])
@pytest.mark.parametrize("pads", [[1, 1, 1, 1], [0, 0, 1, 1]])
@pytest.mark.parametrize("quantize_graph", [quantize_int8, quantize_trt_int8])
def test_a_padded_max_pool_reaches_int8(apart: bool, pads: list[int], quantize_graph: Callable[..., ModelProto]) -> None:
    """The stem of a ResNet. A pad of -infinity has no place on a grid of eight bits."""
    rng = np.random.default_rng(0)
    stored = {"w": rng.standard_normal((16, 3, 3, 3)), "v": rng.standard_normal((16, 16, 1, 1)), "fc": rng.standard_normal((16, 5))}
    stored = {name: array.astype(np.float32) for name, array in stored.items()}
    window = {"kernel_shape": [3, 3], "strides": [2, 2]}
    pool = [helper.make_node("MaxPool", ["a"], ["p"], **window, pads=pads)]
    if apart:
        stored |= {"pads": np.array([0, 0, *pads[:2], 0, 0, *pads[2:]]), "low": np.array(-np.inf, np.float32)}
        pool = [helper.make_node("Pad", ["a", "pads", "low"], ["b"]), helper.make_node("MaxPool", ["b"], ["p"], **window)]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        *pool,
        helper.make_node("Conv", ["p", "v"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "fc"], ["logits"]),
    ]
    model = classifier(nodes, stored, (None, 3, 16, 16))
    images = rng.integers(0, 256, (16, 16, 16, 3)).astype(np.uint8)
    again = export_onnx(OnnxGraph(model).eval(), (3, 16, 16))
    x = torch.from_numpy(to_input(images))
    expected = run(model, x)
    np.testing.assert_allclose(run(again, x), expected, atol=1e-4)
    found = run(quantize_graph(again, Calibration(images, "minmax")), x)
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


def test_a_half_graph_is_attacked_in_float32_and_run_as_it_is(tmp_path: Path) -> None:
    """INT8 with the rest in float16: read wide it has a gradient where the network is sure, and the same answers."""
    rng = np.random.default_rng(0)
    stored = {"w": rng.standard_normal((16, 3, 3, 3)), "v": rng.standard_normal((16, 16, 1, 1)), "fc": rng.standard_normal((16, 5))}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "fc"], ["logits"]),
    ]
    model = classifier(nodes, {name: array.astype(np.float32) for name, array in stored.items()}, (None, 3, 16, 16))
    images = rng.integers(0, 256, (16, 16, 16, 3)).astype(np.uint8)
    half = quantize_trt_int8(export_onnx(OnnxGraph(model).eval(), (3, 16, 16)), Calibration(images, "minmax"))
    onnx.save(half, tmp_path / "half.onnx")
    x = torch.from_numpy(to_input(images)).requires_grad_()
    expected = run(half, x.detach())
    for graph in (OnnxGraph(half).eval(), read_onnx(tmp_path / "half.onnx").eval()):
        logits = graph(x)
        assert logits.dtype == torch.float32
        assert {value.dtype for value in graph.parameters()} == {torch.float32 if graph.widened else torch.float16}
        assert np.abs(logits.detach().numpy() - expected).max() < 0.03 * np.abs(expected).max()
    assert graph.widened
    (gradient,) = torch.autograd.grad(1e-9 * logits.sum(), x)
    assert (gradient != 0).float().mean() > 0.9, "far below what float16 holds"


def relu(source: str = "x", result: str = "y") -> onnx.NodeProto:
    return helper.make_node("Relu", [source], [result])


IMAGE = (None, 3, 4, 4)
REFUSED: dict[str, tuple[Callable[[], ModelProto], str]] = {
    "unknown operators": (
        lambda: classifier([helper.make_node("Det", ["x"], ["a"]), helper.make_node("NonZero", ["a"], ["y"])], {}, IMAGE),
        r"cannot be read back: Det, NonZero\. Supported: Abs, Acos,",
    ),
    "a custom operator": (
        lambda: classifier([helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")], {}, IMAGE),
        "com.microsoft::Gelu",
    ),
    "batch norm that trains": (
        lambda: classifier(
            [helper.make_node("BatchNormalization", ["x", *"sbmv"], ["y"], "norm", training_mode=1)],
            {k: np.ones(3, np.float32) for k in "sbmv"},
            IMAGE,
        ),
        r"BatchNormalization 'norm' with training_mode = 1 is not implemented; expected 0\. .*model\.eval\(\)",
    ),
    "a dropout that drops": (
        lambda: classifier(
            [helper.make_node("Dropout", ["x", "r", "t"], ["y"], "drop")], {"r": np.float32(0.5), "t": np.array(True)}, IMAGE
        ),
        r"Dropout 'drop' with training_mode = true is not implemented; expected false\. .*model\.eval\(\)",
    ),
    "the indices of a pool": (
        lambda: classifier(
            [helper.make_node("MaxPool", ["x"], ["p", "i"], kernel_shape=[2, 2]), helper.make_node("Cast", ["i"], ["y"], to=1)], {}, IMAGE
        ),
        "MaxPool 'p' whose output 'i' is used is not implemented",
    ),
    "channels last": (lambda: classifier([relu()], {}, (None, 16, 16, 3)), r"channels last .*--inputs-as-nchw x"),
    "a softmax in percent": (
        lambda: classifier(
            [
                helper.make_node("Flatten", ["x"], ["z"]),
                helper.make_node("Softmax", ["z"], ["p"], "end", axis=1),
                helper.make_node("Mul", ["p", "c"], ["y"]),
            ],
            {"c": np.array(100, np.float32)},
            IMAGE,
        ),
        r"ends in probabilities \(Softmax 'end'\).*if 'p' in n.output",
    ),
    "a sigmoid for every class": (
        lambda: classifier([helper.make_node("Flatten", ["x"], ["z"]), helper.make_node("Sigmoid", ["z"], ["y"])], {}, IMAGE),
        r"ends in probabilities \(Sigmoid 'y'\)",
    ),
    "a softmax without its background": (
        lambda: classifier(
            [
                helper.make_node("Flatten", ["x"], ["z"]),
                helper.make_node("Softmax", ["z"], ["p"], "end", axis=1),
                helper.make_node("Shape", ["p"], ["n"], start=1),
                helper.make_node("Slice", ["p", "one", "n", "one"], ["y"]),
            ],
            {"one": np.array([1])},
            IMAGE,
        ),
        r"ends in probabilities \(Softmax 'end'\)",
    ),
    "a softmax in eight bits": (
        lambda: classifier(
            [
                helper.make_node("Flatten", ["x"], ["z"]),
                helper.make_node("Softmax", ["z"], ["p"], "end", axis=1),
                helper.make_node("QuantizeLinear", ["p", "s"], ["q"]),
                helper.make_node("DequantizeLinear", ["q", "s"], ["y"]),
            ],
            {"s": np.array(1 / 255, np.float32)},
            IMAGE,
        ),
        r"ends in probabilities \(Softmax 'end'\)",
    ),
    "a sigmoid whose parts change places": (
        lambda: classifier(
            [
                helper.make_node("Flatten", ["x"], ["z"]),
                helper.make_node("Sigmoid", ["z"], ["p"]),
                helper.make_node("Split", ["p"], ["a", "b"], axis=1, num_outputs=2),
                helper.make_node("Concat", ["b", "a"], ["y"], axis=1),
            ],
            {},
            IMAGE,
        ),
        r"ends in probabilities \(Sigmoid 'p'\)",
    ),
    "a shape made of pixels": (
        lambda: classifier([helper.make_node("Cast", ["x"], ["s"], to=7), helper.make_node("Reshape", ["x", "s"], ["y"])], {}, IMAGE),
        "Reshape 'y' whose input 's' is computed from the images is not implemented",
    ),
    "an infinite weight": (
        lambda: classifier(
            [helper.make_node("Mul", ["x", "w"], ["y"])], {"w": np.array([1, np.inf, np.nan], np.float32)[:, None, None]}, IMAGE
        ),
        r"2 of the 3 values of 'w' are NaN or infinity",
    ),
    "an infinite weight that is turned first": (
        lambda: classifier(
            [helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0, 2]), helper.make_node("Mul", ["x", "t"], ["y"])],
            {"w": np.array([1, np.inf, 2], np.float32)[None, :, None]},
            IMAGE,
        ),
        r"1 of the 3 values of 't' are NaN or infinity",
    ),
    "a mask of NaN": (
        lambda: classifier(
            [helper.make_node("Add", ["x", "w"], ["y"])], {"w": np.array([-np.inf, np.nan, 0], np.float32)[:, None, None]}, IMAGE
        ),
        r"1 of the 3 values of 'w' are NaN",
    ),
    "two inputs": (
        lambda: add_input(classifier([helper.make_node("Add", ["x", "z"], ["y"])], {}, IMAGE)),
        r"2 inputs \(x, z\)",
    ),
    "two outputs": (
        lambda: classifier([relu(), relu("x", "z")], {}, IMAGE, outputs=2),
        r"2 outputs \(y, z\).*extract_model\(path, new, \['x'\], \['y'\]\)",
    ),
    "rows for input": (lambda: classifier([relu()], {}, (None, 8)), r"FLOAT \[None, 8\]; expected FLOAT \(n, channels"),
    "a constant output": (lambda: classifier([relu("w")], {"w": np.ones((1, 2), np.float32)}, IMAGE), "returns a constant"),
    "a constant that fills the memory": (
        lambda: classifier(
            [helper.make_node("ConstantOfShape", ["s"], ["c"]), helper.make_node("Add", ["x", "c"], ["y"])], {"s": np.array([2**31])}, IMAGE
        ),
        "cannot compute ConstantOfShape .*a tensor of 2,147,483,648 elements",
    ),
    "a broken constant": (
        lambda: classifier([helper.make_node("Reshape", ["w", "s"], ["y"])], {"w": np.ones(3, np.float32), "s": np.array([2, 2])}, IMAGE),
        "cannot compute Reshape",
    ),
}


def add_input(model: ModelProto) -> ModelProto:
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1]))
    return model


def test_following_the_advice_against_probabilities_gives_a_twin(tmp_path: Path) -> None:
    """A file of 2017: its weights are inputs too, which other ways of cutting a graph refuse."""
    path, new = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_shufflenet.onnx", tmp_path / "new.onnx"
    with pytest.raises(UsageError) as caught:
        read_onnx(path)
    _, advice = str(caught.value).rstrip(".").split("pass them on: ")
    exec(advice, {"onnx": onnx, "path": path, "new": new})
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        logits = read_onnx(new).eval()(images)
    np.testing.assert_allclose(logits, run(onnx.load(new), images), atol=1e-4)
    np.testing.assert_allclose(torch.softmax(logits, 1), run(onnx.load(path), images), atol=1e-5)


@pytest.mark.parametrize("case", REFUSED)
def test_a_graph_that_cannot_be_read_back_is_one_clear_line(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(UsageError, match=message) as caught:
        OnnxGraph(make(), "file.onnx")
    assert "\n" not in str(caught.value)


def garbage(model: ModelProto) -> bytes:
    return b"\x00\x01garbage" * 50


def truncated(model: ModelProto) -> bytes:
    return model.SerializeToString()[:-40]


def huge(model: ModelProto) -> bytes:
    model.graph.initializer[0].dims[:] = [2**20, 2**20]
    return model.SerializeToString()


def outside(model: ModelProto) -> bytes:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../../etc/passwd"
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (garbage, "not an ONNX file|not a valid"),
        (truncated, "truncated"),
        (huge, r"tensor 'zero' (is damaged|declares shape)"),
        (outside, r"stored outside of the file, in '\.\./"),
    ],
)
def test_a_hostile_file_is_one_clear_line(harm: Callable[[ModelProto], bytes], message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(harm(shape_graph()))
    with pytest.raises(UsageError, match=message) as caught:
        read_onnx(tmp_path / "bad.onnx")
    assert "\n" not in str(caught.value)
