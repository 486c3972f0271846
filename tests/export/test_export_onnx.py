"""PyTorch -> ONNX: what the graph promises, what it may not carry, and what a failure says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto
from torch import Tensor, nn

from export.errors import ExportError
from export.onnx import OPSET, export_onnx
from export.session import open_session

pytestmark = pytest.mark.slow(20)


class Forward(nn.Module):
    """A module whose forward is the given function."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor):
        return self.function(x)


def test_one_input_one_output_dynamic_batch(graph: ModelProto) -> None:
    (source,), (target,) = graph.graph.input, graph.graph.output
    dims = [[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in (source, target)]
    assert (source.name, target.name) == ("images", "logits")
    assert dims == [["batch", 3, 12, 8], ["batch", 5]]
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", OPSET)]


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_same_logits_as_pytorch(network: nn.Module, graph: ModelProto, batch: int) -> None:
    x = np.random.default_rng(batch).random((batch, 3, 12, 8), np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(open_session(graph).run(None, {"images": x})[0], expected, atol=1e-5)


def test_carries_nothing_of_this_machine(graph: ModelProto) -> None:
    data = graph.SerializeToString()
    for trace in (str(Path.cwd()), str(Path.home()), "site-packages", ".py", 'File "', torch.__version__):
        assert trace.encode() not in data, trace


_REPEAT = """
import hashlib, sys, numpy as np, torch
from torch import nn
from export.calibration import Calibration
from export.int8 import quantize_int8
from export.onnx import export_onnx
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Hardswish(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3)).eval()
images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
floating = export_onnx(model, (3, 8, 8))
integer = quantize_int8(floating, Calibration(images, sys.argv[1]))
print(*(hashlib.sha256(part.SerializeToString(deterministic=True)).hexdigest() for part in (floating, integer)))
"""


def test_same_bytes_in_every_process(tmp_path: Path) -> None:
    """Another hash seed, another working directory, another process: the same two files."""
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", _REPEAT, "percentile"],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed, folder in (("1", tmp_path), ("2", Path.cwd()))
    ]
    answers = [run.communicate(timeout=300) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], answers
    assert answers[0][0] == answers[1][0]
    assert len(answers[0][0].split()) == 2


def test_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    export_onnx(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval(), (1, 2, 2))
    assert capfd.readouterr() == ("", "")


FAILURES = {
    "branches on values": (lambda x: x.flatten(1) if x.mean() > 0 else -x.flatten(1), "data-dependent", "branches on tensor values"),
    "fixed batch": (lambda x: x.reshape(2, 12), "Constraints violated", "batch size is fixed"),
    "no ONNX operator": (lambda x: torch.special.i0e(x).flatten(1), "No ONNX function found", "no ONNX form"),
    "raises": (lambda x: x.flatten(1) @ x.flatten(1)[:, :3], "mat1 and mat2", "cannot trace"),
    "tuple": (lambda x: (x.flatten(1), x), "returns tuple", "return"),
    "feature map": (lambda x: x, "(2, 3, 2, 2)", "logits (2, classes)"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures_say_what_and_why(name: str) -> None:
    function, words, cause = FAILURES[name]
    with pytest.raises(ExportError) as caught:
        export_onnx(Forward(function).eval(), (3, 2, 2))
    assert words in str(caught.value)
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(3), nn.Dropout(0.5)], ids=lambda layer: type(layer).__name__)
def test_refuses_training_mode(layer: nn.Module) -> None:
    model = nn.Sequential(OrderedDict(suspect=layer, flat=nn.Flatten())).train()
    with pytest.raises(ExportError, match=r"'suspect'.*model\.eval\(\)"):
        export_onnx(model, (3, 2, 2))


def test_a_traced_program_exports_again() -> None:
    """What `torch.export` saved comes back as a module without eval(); it must still export, with the batch free."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()
    example = torch.zeros(2, 1, 4, 4)
    free = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("n")},)).module()
    x = np.random.default_rng(0).random((5, 1, 4, 4), np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(
            open_session(export_onnx(free, (1, 4, 4))).run(None, {"images": x})[0], model(torch.from_numpy(x)), atol=1e-5
        )
    with pytest.raises(ExportError, match="batch size is fixed"):
        export_onnx(torch.export.export(model, (example,)).module(), (1, 4, 4))


def test_nothing_is_left_of_the_tracing(graph: ModelProto) -> None:
    assert not graph.functions
    assert not any(part.metadata_props for part in (*graph.graph.node, *graph.graph.input, *graph.graph.value_info))
    onnx.checker.check_model(graph, full_check=True)
