"""Low-bit networks in INT8: the steps are the network's own, and integers answer as it does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from export.artefact import Artefact
from export.calibration import Calibration
from export.evidence import precision_evidence
from export.exact import branch_range, codes, settled_biases, weight_steps
from export.folded import folded
from export.int8 import quantize_int8
from export.lint.rules import lint
from export.onnx import export_onnx
from export.own_grid import Plan, plan_levels
from export.session import open_session, to_input
from harness.compression.methods.lowbit import DoReFaWeight, SymmetricWeight
from harness.models.onnx_graph import OnnxGraph
from harness.models.variants import QuantizedReLU

pytestmark = pytest.mark.slow(70)


class LowBit(nn.Module):
    """A block with a shortcut and one whose shortcut has a convolution of its own, every activation on the levels of `bits`.

    Every sum in front of a border between levels is at least 1 / 160 away from it, however it is rounded: the images' values are fifths,
    weights are eighths, and biases lie in the middle between two possible sums.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(bits)
        count = 2**bits - 1

        def conv(inputs: int, outputs: int, size: int, stride: int, middle: float = 0.5) -> nn.Conv2d:
            layer = nn.Conv2d(inputs, outputs, size, stride, size // 2)
            odd = 2 * torch.randint(2**bits, layer.weight.shape, generator=random) - count
            layer.weight = nn.Parameter(odd / 8 / count)
            layer.bias = nn.Parameter((torch.randint(-4, 5, (outputs,), generator=random) + middle) / 8 / count**2)
            return layer

        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.first.weight = nn.Parameter(torch.randint(-2, 3, self.first.weight.shape, generator=random) / 8)
        self.first.bias = nn.Parameter(torch.full((8,), 1 / 160))
        self.a, self.b = conv(8, 8, 3, 1), conv(8, 8, 3, 1)
        self.c, self.d, self.shortcut = conv(8, 16, 3, 2), conv(16, 16, 3, 1), conv(8, 16, 1, 2, middle=0)
        self.linear = nn.Linear(16, 5)
        self.linear.weight = nn.Parameter(4 * torch.randn(5, 16, generator=random))
        self.linear.bias = nn.Parameter(-self.linear.weight.detach().sum(1) / 2)
        self.relus = nn.ModuleList(QuantizedReLU(bits) for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relus[0](self.first(x))
        x = self.relus[2](self.b(self.relus[1](self.a(x))) + x)
        x = self.relus[4](self.d(self.relus[3](self.c(x))) + self.shortcut(x))
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


BITS = (1, 2, 3, 4)


@pytest.fixture(scope="module")
def fifths() -> NDArray[np.uint8]:
    """24 images, (24, 12, 8, 3), of the values 0, 51, … 255, some darker than others."""
    brightest = 1 + np.arange(24).reshape(-1, 1, 1, 1) % 5
    return (np.minimum(np.random.default_rng(0).integers(0, 6, (24, 12, 8, 3)), brightest) * 51).astype(np.uint8)


def quantized(network: nn.Module, images: NDArray[np.uint8], *, reduce_range: bool = False) -> tuple[ModelProto, ModelProto]:
    """The float graph, and the INT8 one."""
    height, width, channels = images.shape[1:]
    graph = export_onnx(network.eval(), (channels, height, width))
    return graph, quantize_int8(graph, Calibration(images, "minmax"), reduce_range=reduce_range)


def answers(graph: ModelProto, images: NDArray[np.uint8], *, optimise: bool = True) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = open_session(graph, optimise=optimise).run(None, {"images": to_input(images)})[0]
    return logits


@pytest.mark.parametrize("reduce_range", [False, True], ids=["8 bits", "7 bits"])
@pytest.mark.parametrize("bits", BITS)
def test_integers_answer_as_the_network_does(bits: int, reduce_range: bool, fifths: NDArray[np.uint8]) -> None:
    twin = LowBit(bits)
    _, graph = quantized(twin, fifths, reduce_range=reduce_range)
    with torch.no_grad():
        expected = twin(torch.from_numpy(to_input(fifths))).numpy()
    assert np.ptp(expected, axis=0).min() > 0.1
    for optimise in (True, False):
        found = answers(graph, fifths, optimise=optimise)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))


@pytest.mark.parametrize("bits", BITS)
def test_codes_are_levels_and_whole_multiples(bits: int, fifths: NDArray[np.uint8]) -> None:
    """Every activation with levels has the step 1 / L and the zero point 0; every weight but those of the ends is a code times a step."""
    count = 2**bits - 1
    twin = LowBit(bits)
    _, graph = quantized(twin, fifths)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    clips = {node.input[0]: node for node in graph.graph.node if node.op_type == "Clip"}
    found = [node for node in graph.graph.node if node.op_type == "QuantizeLinear" and node.output[0] in clips]
    assert len(found) == 5
    for node in found:
        np.testing.assert_allclose(stored[node.input[1]], np.float32(1 / count), rtol=1e-6)
        assert stored[node.input[2]] == 0 and stored[node.input[2]].dtype == np.uint8
        assert stored[clips[node.output[0]].input[2]] == count
    weights = [node for node in graph.graph.node if node.op_type == "DequantizeLinear" and stored.get(node.input[0], np.empty(0)).ndim == 4]
    assert len(weights) == 3
    named = {name: layer.weight.detach().numpy() for name, layer in twin.named_modules() if hasattr(layer, "weight")}
    for node in weights:
        values = stored[node.input[0]].astype(np.float64) * stored[node.input[1]].reshape(-1, 1, 1, 1)
        assert any(values.shape == own.shape and np.allclose(values, own, rtol=1e-6) for own in named.values())


@pytest.mark.parametrize("bits", BITS)
def test_all_but_the_ends_runs_in_integers(
    bits: int, fifths: NDArray[np.uint8], planted: Callable[..., Artefact], optimised: Callable[[Path], Path]
) -> None:
    _, graph = quantized(LowBit(bits), fifths)
    artefact = planted(graph, "int8")
    evidence = precision_evidence(optimised(artefact.path), artefact)
    assert (evidence.kernels["QLinearConv"], evidence.kernels["ConvInteger"], evidence.kernels["Gemm"]) == (3, 2, 1)
    pixels = 12 * 8
    ends, middle = pixels * 8 * 27 + 16 * 5, pixels * 2 * 8 * 72 + pixels // 4 * 16 * (72 + 144 + 8)
    assert evidence.integer_mac_share == pytest.approx(middle / (ends + middle))


@pytest.mark.parametrize("bits", BITS)
def test_the_lint_finds_nothing_but_the_ends(bits: int, fifths: NDArray[np.uint8], planted: Callable[..., Artefact]) -> None:
    """Codes of at most 15 times weights of at most 127 saturate nowhere."""
    artefact = planted(quantized(LowBit(bits), fifths)[1], "int8")
    assert [(finding.rule, finding.severity.value) for finding in lint(artefact.path, "onnxruntime")] == [("ORT016", "info")] * 2


@pytest.mark.parametrize("bits", BITS)
def test_the_graph_is_read_back_with_its_answers_and_the_networks_gradient(bits: int, fifths: NDArray[np.uint8]) -> None:
    twin = LowBit(bits).eval()
    _, graph = quantized(twin, fifths)
    labels = torch.arange(len(fifths)) % 5
    gradients = []
    for network in (twin, OnnxGraph(graph).eval()):
        x = torch.from_numpy(to_input(fifths)).requires_grad_()
        logits = network(x)
        np.testing.assert_allclose(logits.detach().numpy(), answers(graph, fifths), atol=1e-5)
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum"), x)
        gradients.append(gradient.flatten(1))
    assert all(bool((gradient.abs().amax(1) > 0).all()) for gradient in gradients)
    alike = F.cosine_similarity(*gradients)
    assert alike.min() > 0.9 and alike.mean() > 0.97  # what lies next to 0 or 1 may be taken for beyond it


def test_other_networks_are_left_as_they_are(graph: ModelProto) -> None:
    """Not a node, not an initialiser, and nothing that `quantize_static` is told: eight bits for their own levels are no others either."""
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), QuantizedReLU(8), nn.Flatten(), nn.Linear(480, 4)).eval()
    for model in (folded(graph), folded(export_onnx(plain, (3, 12, 8)))):
        before = model.SerializeToString(deterministic=True)
        plan = plan_levels(model)
        assert plan == Plan() and plan.overrides() == {}
        assert model.SerializeToString(deterministic=True) == before


def steps(images: str, *nodes: tuple[str, list[str], str]) -> ModelProto:
    """A graph of (operator, inputs, output) that ends in `logits`, with the numbers that the inputs name."""
    made = [helper.make_node(operator, inputs, [output]) for operator, inputs, output in nodes]
    results = {output for _, _, output in nodes} | {images, ""}
    numbers = {name for _, inputs, _ in nodes for name in inputs} - results
    stored = [numpy_helper.from_array(np.float32(name), name) for name in numbers]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 4]) for name in (images, "logits")]
    return helper.make_model(helper.make_graph(made, "steps", values[:1], values[1:], stored), opset_imports=[helper.make_opsetid("", 20)])


CHAINS = {
    "three levels": ([("Clip", ["x", "0", "1"], "a"), ("Mul", ["a", "3"], "b"), ("Round", ["b"], "c"), ("Div", ["c", "3"], "y")], {"y": 3}),
    "the factor first": (
        [("Clip", ["x", "0", "1"], "a"), ("Mul", ["7", "a"], "b"), ("Round", ["b"], "c"), ("Div", ["c", "7"], "y")],
        {"y": 7},
    ),
    "one level": ([("Clip", ["x", "0", "1"], "a"), ("Round", ["a"], "y")], {"y": 1}),
    "another range": ([("Clip", ["x", "0", "6"], "a"), ("Mul", ["a", "3"], "b"), ("Round", ["b"], "c"), ("Div", ["c", "3"], "y")], {}),
    "another divisor": ([("Clip", ["x", "0", "1"], "a"), ("Mul", ["a", "3"], "b"), ("Round", ["b"], "c"), ("Div", ["c", "4"], "y")], {}),
    "no whole number": (
        [("Clip", ["x", "0", "1"], "a"), ("Mul", ["a", "2.5"], "b"), ("Round", ["b"], "c"), ("Div", ["c", "2.5"], "y")],
        {},
    ),
    "more than 127": ([("Clip", ["x", "0", "1"], "a"), ("Mul", ["a", "255"], "b"), ("Round", ["b"], "c"), ("Div", ["c", "255"], "y")], {}),
    "rounded down": ([("Clip", ["x", "0", "1"], "a"), ("Mul", ["a", "3"], "b"), ("Floor", ["b"], "c"), ("Div", ["c", "3"], "y")], {}),
    "not rounded": ([("Clip", ["x", "0", "1"], "a"), ("Mul", ["a", "3"], "y")], {}),
    "read in between": (
        [
            ("Clip", ["x", "0", "1"], "a"),
            ("Mul", ["a", "3"], "b"),
            ("Round", ["b"], "c"),
            ("Div", ["c", "3"], "d"),
            ("Add", ["d", "b"], "y"),
        ],
        {},
    ),
}


@pytest.mark.parametrize("case", CHAINS)
def test_levels_are_found_where_they_are_all_that_happens(case: str) -> None:
    nodes, expected = CHAINS[case]
    model = steps("x", *nodes, ("Neg", ["y"], "logits"))
    assert plan_levels(model).levels == expected
    if expected:
        assert [node.op_type for node in model.graph.node] == ["Clip", "Neg"], "the image itself has no maker: its Clip stays"


class OnlyEnds(nn.Module):
    """Its only two layers are the first and the last, and what the levels are made of is read twice."""

    def __init__(self, twice: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.twice, self.conv, self.relu, self.linear = twice, nn.Conv2d(3, 8, 3), QuantizedReLU(2), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        logits: Tensor = self.linear((self.relu(x) + x if self.twice else self.relu(x)).mean(dim=(2, 3)))
        return logits


@pytest.mark.parametrize("twice", [False, True])
def test_levels_between_two_layers_in_float_stay(twice: bool, fifths: NDArray[np.uint8]) -> None:
    network = OnlyEnds(twice)
    floating, graph = quantized(network, fifths)
    assert Counter(node.op_type for node in graph.graph.node)["QuantizeLinear"] >= 1
    near = np.abs(answers(graph, fifths) - answers(floating, fifths)).max(axis=1) < (0.05 if twice else 1e-5)
    assert near.mean() > 0.9


BETWEEN: dict[str, tuple[tuple[nn.Module, ...], tuple[nn.Module, ...]]] = {
    "nothing": ((), ()),
    "a pool before": ((nn.MaxPool2d(2),), ()),
    "a pool behind": ((), (nn.MaxPool2d(2),)),
    "a mean before": ((nn.AvgPool2d(2),), ()),
    "scaled before": ((nn.Upsample(scale_factor=2),), ()),
    "one shape before": ((nn.Flatten(2),), (nn.Unflatten(2, (12, 8)),)),
    "a ReLU before": ((nn.ReLU(),), ()),
    "a norm behind": ((), (nn.BatchNorm2d(8),)),
}


@pytest.mark.parametrize("case", BETWEEN)
def test_whatever_stands_beside_it_an_activation_has_its_own_step(case: str, fifths: NDArray[np.uint8]) -> None:
    """Where something that only moves values comes before, `quantize_static` would hand the step before that on."""
    torch.manual_seed(0)
    before, behind = BETWEEN[case]
    middle, last = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
    for layer in (middle, last):
        layer.weight.data = DoReFaWeight(2)(torch.randn(8, 8, 3, 3)) / 6
    relus = [QuantizedReLU(2) for _ in range(3)]
    ends = nn.Conv2d(3, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    network = nn.Sequential(ends[0], relus[0], middle, *before, relus[1], *behind, last, relus[2], *ends[1:])
    floating, graph = quantized(network, fifths)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    clips = {node.input[0] for node in graph.graph.node if node.op_type == "Clip" and node.input[-1] == "levels_3"}
    found = [node for node in graph.graph.node if node.op_type == "QuantizeLinear" and node.output[0] in clips]
    assert [(float(stored[node.input[1]]), int(stored[node.input[2]])) for node in found] == [(pytest.approx(1 / 3), 0)] * 3
    apart = np.abs(answers(graph, fifths) - answers(floating, fifths)).max(axis=1)
    assert apart.max() < 0.05
    assert np.median(apart) < 1e-5 or case not in ("nothing", "a pool behind", "a ReLU before")


@pytest.mark.parametrize("largest", [127, 64])
@pytest.mark.parametrize("bits", range(1, 7))
def test_weights_on_a_grid_have_its_step(bits: int, largest: int) -> None:
    """Behind a batch norm, which gives each output a scale of its own."""
    if 2**bits - 1 > largest:
        pytest.skip("more codes than there are")
    torch.manual_seed(bits)
    gain = torch.empty(12).uniform_(0.01, 3).view(-1, 1, 1, 1) * torch.randn(12, 1, 1, 1).sign()
    weight = (DoReFaWeight(bits)(torch.randn(12, 5, 3, 3)) * gain).numpy()
    step = weight_steps(weight, largest)
    found = codes(weight, step)
    np.testing.assert_allclose(found * step.reshape(-1, 1, 1, 1), weight, rtol=1e-5, atol=1e-7)
    assert largest // 2 < np.abs(found).max() <= largest


def test_other_weights_have_the_largest_code() -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 5, 3, 3)
    weight[2] = 0
    for values in (weight.numpy(), SymmetricWeight()(weight).numpy()):
        step = weight_steps(values, 127)
        tops = np.abs(values.reshape(6, -1)).max(axis=1)
        np.testing.assert_allclose(step, np.where(tops > 0, tops, 1) / 127, rtol=1e-6)


@pytest.mark.parametrize("levels", [1, 2, 3, 7, 10, 15, 31, 42, 43, 63, 64, 127])
def test_eight_bits_of_a_branch_change_no_level(levels: int) -> None:
    """Every level beside every branch, 1 / 64 of a code away from a border at least."""
    low, high = branch_range(levels)
    scale = (float(high) - float(low)) / 255
    assert round(-low / scale) == 127
    branch = (np.arange(-300 * 64, 300 * 64) + 0.5) / 64 * scale
    code = np.clip(np.rint(branch / scale) + 127, 0, 255)
    other = np.arange(levels + 1)[:, None] / levels
    expected, found = (np.rint(np.clip(part + other, 0, 1) * levels) for part in (branch, (code - 127) * scale))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("unit", "levels", "share"), [(127, 1, 0), (42, 3, 0.05), (8, 15, 0.8), (1, 3, 1)])
def test_biases_move_to_where_fewer_sums_change_their_level(unit: int, levels: int, share: float) -> None:
    """`share`: of what the nearest multiple of the step changes. With one border all is mended, with no room nothing."""
    random = np.random.default_rng(unit)
    bias = random.normal(0, 0.3, 2000).astype(np.float32)
    step = random.uniform(0.02, 0.2, 2000) / unit
    borders = (np.arange(levels) + 0.5) / levels
    sums = np.arange(-200, 201)[:, None] * unit * step

    def changed(moved: NDArray[np.float64]) -> int:
        return int((np.searchsorted(borders, sums + moved) != np.searchsorted(borders, sums + bias.astype(np.float64))).sum())

    moved = settled_biases(bias, step, np.full(2000, unit), borders)
    np.testing.assert_allclose(moved / step, np.rint(moved / step), atol=1e-2)
    assert np.abs(moved - bias).max() <= (unit + 0.5) * step.max() * 1.001
    assert changed(moved.astype(np.float64)) <= share * changed(np.rint(bias / step) * step) > 0 or share == 0
    assert share or changed(moved.astype(np.float64)) == 0 < changed(np.rint(bias / step) * step)
