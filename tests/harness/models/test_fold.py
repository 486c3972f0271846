"""Batch norms of networks that were read from a file."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from harness.attacks.forms import Forms
from harness.attacks.gradient import frozen_eval
from harness.data.dataset import Dataset, to_bytes
from harness.models.fold import NORMS, _operator, fold_batch_norms
from harness.models.interpreter import GraphInterpreter
from harness.models.onnx_graph import OnnxGraph
from harness.models.pt2 import read_pt2


class Shapes(nn.Module):
    """Convolutions of several kinds, each with a batch norm; two or three of these may not be folded."""

    def __init__(self, up: bool) -> None:
        super().__init__()
        self.plain, self.norm1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.grouped, self.norm2 = nn.Conv2d(8, 8, 3, 2, 1, groups=4), nn.BatchNorm2d(8, affine=False)
        self.shared, self.norm3 = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.alone = nn.BatchNorm2d(8)
        self.up = nn.Sequential(nn.ConvTranspose2d(8, 8, 2, 2), nn.BatchNorm2d(8)) if up else nn.Identity()
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> (n, 5)."""
        x = torch.relu(self.norm1(self.plain(x)))
        x = torch.relu(self.norm2(self.grouped(x)))
        shared = self.shared(x)
        x = self.alone(torch.relu(self.norm3(shared) + shared))
        return self.head(self.up(x).mean((2, 3)))


FOLDED, KEPT = 2, 2  # kept: norm3, whose convolution is read twice, and the one without a convolution


def network(up: bool = False) -> nn.Module:
    """In evaluation mode, with statistics as of a trained one."""
    torch.manual_seed(0)
    module = Shapes(up)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.2, 3.0)
            if part.affine:
                nn.init.normal_(part.weight)
                nn.init.normal_(part.bias)
    return module.eval()


def read_back(network: nn.Module, form: str, place: Path) -> GraphInterpreter:
    """The network through a `.pt2` file."""
    example, free = (torch.rand(2, 3, 8, 8),), ({0: torch.export.Dim("n")},)
    program = torch.export.export(network, example, dynamic_shapes=free)
    torch.export.save(program.run_decompositions() if form == "decomposed" else program, place / "n.pt2")
    return read_pt2(place / "n.pt2").network


def norms(network: nn.Module) -> int:
    """How many batch norms are left."""
    return sum(_operator(step) in NORMS for part in network.modules() if isinstance(part, GraphInterpreter) for step in part.steps)


@pytest.mark.parametrize(("form", "up"), [("saved", False), ("saved", True), ("decomposed", False), ("decomposed", True)])
def test_batch_norms_of_a_file_are_folded(form: str, up: bool, tmp_path: Path) -> None:
    original = network(up)
    graph = read_back(original, form, tmp_path).eval()
    before, images = copy.deepcopy(graph.state_dict()), torch.rand(4, 3, 8, 8)
    folded = fold_batch_norms(nn.Sequential(nn.Identity(), graph))
    assert (norms(graph), norms(folded)) == (FOLDED + KEPT + up, KEPT + up)
    torch.testing.assert_close(folded(images), original(images), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in graph.state_dict().items()), "the network itself was changed"


def test_batch_norms_of_onnx_are_folded() -> None:
    """As older exporters, and those of other frameworks, write them."""
    rng = np.random.default_rng(0)
    stored = {"w": rng.normal(size=(4, 3, 3, 3)), "b": rng.normal(size=4), "scale": rng.normal(size=4), "shift": rng.normal(size=4)}
    stored |= {"mean": rng.normal(size=4), "variance": rng.uniform(0.2, 3, 4)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 0, 0, 1]),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "variance"], ["n"], epsilon=1e-3),
        helper.make_node("ReduceMean", ["n"], ["y"], axes=[2, 3], keepdims=0),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
    weights = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in stored.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y], weights), opset_imports=[helper.make_opsetid("", 17)])
    graph, images = OnnxGraph(model).eval(), torch.rand(4, 3, 8, 8)
    folded = fold_batch_norms(graph)
    assert (norms(graph), norms(folded)) == (1, 0)
    torch.testing.assert_close(folded(images), graph(images), rtol=1e-5, atol=1e-5)


def test_a_fast_form_of_a_file_is_folded(tmp_path: Path) -> None:
    graph, images = read_back(network(), "saved", tmp_path).eval(), torch.rand(40, 3, 8, 8)
    with frozen_eval(graph):
        forms = Forms(graph, Dataset("random", to_bytes(images), np.zeros(40, np.int64)))
        form = forms.get(bf16=False)
        torch.testing.assert_close(form(images).cpu(), graph(images), rtol=1e-4, atol=1e-4)
    assert form is not graph and forms.get(bf16=False) is form
    called = [node.target for part in form.modules() if isinstance(part, torch.fx.GraphModule) for node in part.graph.nodes]
    assert sum(target in NORMS for target in called) == KEPT
