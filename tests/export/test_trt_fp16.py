"""float16 with explicit types: what becomes half, what stays, and what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import nn

from export.calibration import Calibration
from export.errors import ExportError
from export.fp16 import to_fp16
from export.onnx import export_onnx
from export.session import open_session, to_input
from harness.models.normalisation import with_normalisation

UNUSED = Calibration(np.zeros((1, 12, 8, 3), np.uint8), "minmax")


def types(model: ModelProto) -> dict[str, int]:
    """Element type of every tensor."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in values} | {t.name: t.data_type for t in graph.initializer}


def test_normalisation_is_float32_and_all_else_float16(network: nn.Module) -> None:
    model = to_fp16(export_onnx(with_normalisation(network, "cifar10", 3), (3, 12, 8)), UNUSED)
    onnx.checker.check_model(model, full_check=True)
    found = types(model)
    kinds = [node.op_type for node in model.graph.node]
    first = kinds.index("Cast")
    assert sorted(kinds[:first]) == ["Div", "Sub"]
    assert kinds.count("Cast") == 2
    assert kinds[-1] == "Cast"
    assert {found[name] for node in model.graph.node[:first] for name in (*node.input, *node.output)} == {TensorProto.FLOAT}
    assert {found[name] for node in model.graph.node[first + 1 : -1] for name in (*node.input, *node.output)} - {TensorProto.INT64} == {
        TensorProto.FLOAT16
    }
    assert (found["images"], found["logits"]) == (TensorProto.FLOAT, TensorProto.FLOAT)


def test_answers_are_those_of_half_precision(network: nn.Module, graph: ModelProto, images: NDArray[np.uint8]) -> None:
    """Against PyTorch's own half precision, after the same first cast."""
    x = to_input(images)
    found = open_session(to_fp16(graph, UNUSED), optimise=False).run(None, {"images": x})[0]
    with torch.no_grad():
        exact = network(torch.from_numpy(x)).numpy()
    assert 0 < np.abs(found - exact).max() < 2**-7 * np.abs(exact).max()


def test_the_input_graph_is_not_changed(graph: ModelProto) -> None:
    before = graph.SerializeToString()
    to_fp16(graph, UNUSED)
    assert graph.SerializeToString() == before


class Masked(nn.Module):
    """Every row of an image attends to those above it."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.head = how, nn.Linear(24, 3)
        self.register_buffer("unseen", torch.ones(8, 8, dtype=torch.bool).triu(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.transpose(1, 2).flatten(2)
        scores = self.head.weight.mean() + rows @ rows.transpose(1, 2)
        unseen = self.get_buffer("unseen")
        if self.how == "added":
            scores = scores + torch.zeros(8, 8).masked_fill(unseen, torch.finfo(torch.float32).min)
        else:
            scores = scores.masked_fill(unseen, float("-inf") if self.how == "infinite" else torch.finfo(torch.float32).min)
        logits: torch.Tensor = self.head((scores.softmax(-1) @ rows).mean(1))
        return logits


@pytest.mark.parametrize("how", ["added", "lowest", "infinite"])
def test_masks_of_an_attention_are_low_numbers_of_half_precision(how: str) -> None:
    torch.manual_seed(0)
    graph = export_onnx(Masked(how).eval(), (3, 8, 8))
    x = np.random.default_rng(0).random((4, 3, 8, 8), np.float32)
    half, exact = (open_session(model).run(None, {"images": x})[0] for model in (to_fp16(graph, UNUSED), graph))
    np.testing.assert_allclose(half, exact, atol=5e-3)


def test_a_weight_beyond_the_range_is_refused() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(288, 5)).eval()
    module[1].weight.data[2, 3] = 7e4
    with pytest.raises(ExportError, match=r"reaches 7e\+04; float16 ends at 65,504. Use trt-fp32 or trt-int8-fp32"):
        to_fp16(export_onnx(module, (3, 12, 8)), UNUSED)


def body(*nodes: NodeProto, **weights: NDArray[np.generic]) -> ModelProto:
    value = helper.make_tensor_value_info
    stored = [numpy_helper.from_array(array, name) for name, array in {"w": np.ones((3, 3, 1, 1), np.float32), **weights}.items()]
    first = helper.make_node("Conv", ["images", "w"], ["x"])
    graph = helper.make_graph(
        [first, *nodes], "g",
        [value("images", TensorProto.FLOAT, ["batch", 3, 4, 4])], [value("logits", TensorProto.FLOAT, None)], stored,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


TO_INTEGERS = helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT32)
TO_FLOAT = helper.make_node("Cast", ["i"], ["logits"], to=TensorProto.FLOAT)
TWO = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.float32(2)))


@pytest.mark.parametrize(
    ("nodes", "weights"),
    [
        ([helper.make_node("Resize", ["x", "", "scales"], ["logits"])], {"scales": np.array([1, 1, 2, 2], np.float32)}),
        ([TO_INTEGERS, TO_FLOAT], {}),
        ([TWO, helper.make_node("Mul", ["x", "c"], ["logits"])], {}),
        ([helper.make_node("ReduceMean", ["x", "axes"], ["logits"], keepdims=0)], {"axes": np.array([2, 3])}),
        ([helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Add", ["y", "images"], ["logits"])], {}),
    ],
    ids=["resize", "casts", "constant", "integer axes", "input read twice"],
)  # fmt: skip
def test_operators_with_types_of_their_own(nodes: list[NodeProto], weights: dict[str, NDArray[np.generic]]) -> None:
    """The converted graph is valid, runs, and answers as the original."""
    before = body(*nodes, **weights)
    x = np.random.default_rng(0).random((2, 3, 4, 4), np.float32) * 4
    after = to_fp16(before, UNUSED)
    exact, found = (open_session(model, optimise=False).run(None, {"images": x})[0] for model in (before, after))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact, atol=0.02)


def test_no_half_form() -> None:
    """Boxes are float32 in ONNX and nothing else."""
    nodes = [
        helper.make_node("Reshape", ["x", "boxes_shape"], ["boxes"]),
        helper.make_node("Reshape", ["x", "scores_shape"], ["scores"]),
        helper.make_node("NonMaxSuppression", ["boxes", "scores"], ["kept"]),
        helper.make_node("Cast", ["kept"], ["logits"], to=TensorProto.FLOAT),
    ]
    with pytest.raises(ExportError, match=r"no float16 form: .*NonMaxSuppression.*Use trt-fp32 or trt-int8-fp32"):
        to_fp16(body(*nodes, boxes_shape=np.array([-1, 12, 4]), scores_shape=np.array([-1, 4, 12])), UNUSED)
