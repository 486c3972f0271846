"""What is read into PyTorch answers as the file does in onnxruntime, or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from export.onnx import export_onnx
from harness.errors import UsageError
from harness.models import onnx_operators
from harness.models.load import load_twin

SIDE = 10
RNG = np.random.default_rng(0)
HEAD = RNG.standard_normal((3, 5)).astype(np.float32)
N = helper.make_node


def save(path: Path, nodes: list[onnx.NodeProto], stored: dict[str, Any], opset: int = 18) -> str:
    """A graph that makes "y" of "x" (n, 3, 10, 10), and five logits of it."""
    nodes = [*nodes, N("GlobalAveragePool", ["y"], ["p"]), N("Flatten", ["p"], ["f"]), N("MatMul", ["f", "head"], ["logits"])]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in {**stored, "head": HEAD}.items()]
    images = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
    graph = helper.make_graph(nodes, "g", [images], [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 5])], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), path)
    return str(path)


def in_bytes(*between: onnx.NodeProto) -> list[onnx.NodeProto]:
    """255 x as bytes "b", what `between` makes of them, "c", and floats again."""
    scaled = [N("Mul", ["x", "white"], ["s"]), N("Cast", ["s"], ["b"], to=TensorProto.UINT8)]
    return [*scaled, *between, N("Cast", ["c"], ["z"], to=TensorProto.FLOAT), N("Div", ["z", "white"], ["y"])]


WHITE = {"white": np.float32(255), "hundred": np.uint8(100)}


@pytest.mark.parametrize("scale", [0.7, 1.3, 2.0])
def test_a_resize_by_a_fraction_answers_as_the_file(scale: float, tmp_path: Path) -> None:
    nodes = [N("Resize", ["x", "", "scales"], ["r"], mode="linear"), N("Relu", ["r"], ["y"])]
    load_twin(save(tmp_path / "m.onnx", nodes, {"scales": np.array([1, 1, scale, scale], np.float32)}))


@pytest.mark.parametrize("between", [N("Min", ["b", "hundred"], ["c"]), N("Sub", ["b", "hundred"], ["c"])])
def test_bytes_answer_as_the_file_where_they_go_round_too(between: onnx.NodeProto, tmp_path: Path) -> None:
    """5 - 100 is 161 in bytes. Carried as floats, so that a gradient passes, it would be -95: another network."""
    twin = load_twin(save(tmp_path / "m.onnx", in_bytes(between), WHITE))
    x = torch.rand(2, 3, SIDE, SIDE).requires_grad_()
    assert twin.module(x).requires_grad == (between.op_type == "Min")


@pytest.mark.parametrize("with_sizes", [False, True])
def test_an_operator_that_means_something_else_here_is_refused(with_sizes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.LeakyReLU(0.1), torch.nn.Flatten(), torch.nn.Linear(512, 5)).eval()
    graph = export_onnx(network, (3, SIDE, SIDE))
    if with_sizes:  # computed as PyTorch's legacy exporter writes them: cast to integers and rounded, which no answer is
        flatten = next(node for node in graph.graph.node if node.op_type in ("Flatten", "Reshape"))
        place = list(graph.graph.node).index(flatten)
        sizes = [
            N("Shape", ["images"], ["shape"]), N("Gather", ["shape", "first"], ["n"]), N("Cast", ["n"], ["float"], to=TensorProto.FLOAT),
            N("Floor", ["float"], ["floor"]), N("Cast", ["floor"], ["whole"], to=TensorProto.INT64),
            N("Concat", ["whole", "rest"], ["sizes"], axis=0), N("Reshape", [flatten.input[0], "sizes"], [flatten.output[0]]),
        ]  # fmt: skip
        nodes = [*graph.graph.node[:place], *sizes, *graph.graph.node[place + 1 :]]
        del graph.graph.node[:]
        graph.graph.node.extend(nodes)
        graph.graph.initializer.extend(numpy_helper.from_array(np.array([v]), name) for name, v in (("first", 0), ("rest", -1)))
    onnx.save(graph, tmp_path / "m.onnx")
    assert load_twin(str(tmp_path / "m.onnx")).classes == 5
    monkeypatch.setitem(onnx_operators.OPERATORS, "LeakyRelu", lambda attributes, x: torch.nn.functional.leaky_relu(x, 0.01))
    with pytest.raises(UsageError, match="the twin would be another network"):
        load_twin(str(tmp_path / "m.onnx"))


def test_a_network_that_magnifies_the_rounding_of_another_order_of_sums_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answers in float32 are as far from those in float64 as they are from onnxruntime's; another mean is as far from neither."""

    def mean(_: Any, x: torch.Tensor) -> torch.Tensor:
        return sum(x.flatten(2).unbind(2), torch.zeros(())).reshape(*x.shape[:2], 1, 1) / x[0, 0].numel()

    nodes = [N("GlobalAveragePool", ["x"], ["m"]), N("Mul", ["m", "far"], ["s"]), N("Sin", ["s"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, {"far": np.float32(1e5)})
    monkeypatch.setitem(onnx_operators.OPERATORS, "GlobalAveragePool", mean)
    assert load_twin(path).classes == 5
    monkeypatch.setitem(onnx_operators.OPERATORS, "GlobalAveragePool", lambda _, x: 0.99 * mean(_, x))
    with pytest.raises(UsageError, match="the twin would be another network"):
        load_twin(path)


def test_what_onnxruntime_does_not_run_is_not_judged(tmp_path: Path) -> None:
    """An even window of LRN is in the standard, and not in onnxruntime."""
    assert load_twin(save(tmp_path / "m.onnx", [N("LRN", ["x"], ["y"], size=4)], {})).classes == 5


def test_attention_as_one_node_is_answered_for(tmp_path: Path) -> None:
    """As PyTorch's exporter writes that of every transformer from operator set 23 on."""
    stored = {"two": np.float32(2), "mask": np.tril(np.ones((SIDE, SIDE), bool))}
    nodes = [N("Mul", ["x", "two"], ["k"]), N("Attention", ["x", "k", "x", "mask"], ["y"], scale=0.7)]
    twin = load_twin(save(tmp_path / "m.onnx", nodes, stored, opset=23))
    x = torch.rand(2, 3, SIDE, SIDE).requires_grad_()
    seen = torch.ones(SIDE, SIDE, dtype=torch.bool).tril()
    features = torch.softmax((0.7 * x @ (2 * x).transpose(2, 3)).masked_fill(~seen, -torch.inf), -1) @ x
    expected = features.mean((2, 3)) @ torch.tensor(HEAD)
    torch.testing.assert_close(twin.module(x), expected, rtol=1e-4, atol=1e-5)
    found, real = (torch.autograd.grad(logits.square().sum(), x)[0] for logits in (twin.module(x), expected))
    torch.testing.assert_close(found, real, rtol=1e-3, atol=1e-5)


def test_weights_standardised_by_a_batch_norm_that_trains_are_no_network_in_training(tmp_path: Path) -> None:
    """As PyTorch writes the weights of NF-ResNets and BiT (timm's StdConv2d), whatever mode the network is in."""
    weight = RNG.standard_normal((4, 3, 2, 2)).astype(np.float32)
    stored = {"w": weight.reshape(1, 4, 12), "g": np.ones(4, np.float32), "zero": np.zeros(4, np.float32), "shape": np.array(weight.shape)}
    stored |= {"old_mean": np.full(4, 3, np.float32), "old_var": np.full(4, 9, np.float32)}
    nodes = [
        N("BatchNormalization", ["w", "g", "zero", "old_mean", "old_var"], ["n", "mean", "var"], training_mode=1, epsilon=1e-6),
        N("Reshape", ["n", "shape"], ["k"]), N("Conv", ["x", "k"], ["c"]), N("Slice", ["c", "from", "to", "axis"], ["y"]),
    ]  # fmt: skip
    twin = load_twin(save(tmp_path / "m.onnx", nodes, {**stored, "from": np.array([0]), "to": np.array([3]), "axis": np.array([1])}))
    rows = weight.reshape(4, -1)
    standard = (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + 1e-6)
    x = torch.rand(2, 3, SIDE, SIDE)
    features = torch.nn.functional.conv2d(x, torch.tensor(standard.reshape(weight.shape)))[:, :3].mean((2, 3))
    torch.testing.assert_close(twin.module(x), features @ torch.tensor(HEAD), rtol=1e-4, atol=1e-5)
