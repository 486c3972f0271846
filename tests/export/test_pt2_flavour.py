"""The flavour that is no ONNX graph: a saved PyTorch program, for Torch-TensorRT. What every flavour must do is in tests/contracts."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.artefact import Artefact, load_artefact, sha256_file
from export.errors import ExportError
from export.flavours import export_flavour
from export.parity import check_parity
from export.session import to_input
from harness.errors import UsageError
from harness.models.pt2 import read_pt2
from harness.models.resnet import resnet8
from harness.records import Verdict
from harness.settings import Settings
from harness.spine import bench
from harness.stages.names import check_names

pytestmark = pytest.mark.slow(30)

FLAVOUR = "torch-trt"
SHAPE, CLASSES = (3, 32, 32), 7
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return resnet8(CLASSES).eval()


def export(module: nn.Module, folder: Path) -> Artefact:
    return export_flavour(
        module, FLAVOUR, input_shape=SHAPE, source_sha256="5" * 64, calibration_images=IMAGES, calibration_method="minmax", folder=folder
    )


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    return export(network(), tmp_path_factory.mktemp("pt2"))


def test_it_is_what_the_runner_looks_for(artefact: Artefact) -> None:
    """`devices.worker.engines.torch_tensorrt`: its one input by the manifest's name, the shape from its example."""
    program = torch.export.load(artefact.path)
    assert list(program.graph_signature.user_inputs) == [artefact.input_name]
    assert len(program.graph_signature.user_outputs) == 1
    assert tuple(program.example_inputs[0][0].shape)[1:] == artefact.input_shape
    assert artefact.options == {"torch": torch.__version__}


def test_another_process_writes_the_same_bytes(artefact: Artefact, tmp_path: Path) -> None:
    """Another hash seed, another folder: a run that is resumed elsewhere finds the engine's result under the same hash."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_pt2_flavour import export, network
print(export(network(), Path.cwd()).sha256)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
    )
    assert ended.stdout.strip() == artefact.sha256, ended.stderr


def test_it_is_a_model_that_the_harness_reads_without_running_it(artefact: Artefact) -> None:
    x = torch.from_numpy(to_input(IMAGES))
    with torch.inference_mode():
        torch.testing.assert_close(read_pt2(artefact.path).network.eval()(x), network()(x), atol=1e-5, rtol=1e-5)


def test_the_proof_runs_the_file_and_not_the_module(artefact: Artefact) -> None:
    assert check_parity(network(), artefact, IMAGES).max_logit_error < 1e-5
    found = check_parity(network(seed=1), artefact, IMAGES)
    assert not found.passed
    assert found.max_logit_error > 1e-3


def test_the_proof_opens_only_the_file_that_was_exported(artefact: Artefact, tmp_path: Path) -> None:
    """`torch.export.load` may run what a file says."""
    changed = tmp_path / artefact.path.name
    changed.write_bytes(artefact.path.read_bytes() + b" ")
    with pytest.raises(ExportError, match="changed since it was exported"):
        check_parity(network(), replace(artefact, path=changed), IMAGES)
    changed.write_bytes(b"PK")
    with pytest.raises(ExportError, match="PyTorch cannot load"):
        check_parity(network(), replace(artefact, path=changed, sha256=sha256_file(changed)), IMAGES)


def test_a_program_that_lies_there_is_not_trusted(artefact: Artefact, tmp_path: Path) -> None:
    """A whole and well-formed manifest claims that another network's program is this twin's: it is neither taken nor left in the way."""
    other = export(network(seed=1), tmp_path)
    forged = replace(other, module_sha256=artefact.module_sha256, path=other.path.replace(tmp_path / artefact.path.name))
    forged.save()
    assert load_artefact(forged.path.with_suffix(".json")) == forged
    found = export(network(), tmp_path)
    assert found == replace(artefact, path=found.path)
    assert load_artefact(found.path.with_suffix(".json")) == found
    assert check_parity(network(), found, IMAGES).passed


class FixedBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, -1)[:, :CLASSES]


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :CLASSES] * (2 if x.sum() > 0 else 3)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (FixedBatch(), "the batch size is fixed inside the model"),
        (Branching(), "its forward branches on tensor values"),
        (nn.Sequential(nn.BatchNorm2d(3), nn.Flatten()).train(), r"in training mode: 'network.0' .* Call model.eval\(\) first"),
        (nn.Sequential(nn.ReLU()).eval(), r"expected logits \(2, classes\)"),
    ],
    ids=["fixed-batch", "branching", "training", "not-a-classifier"],
)
def test_what_cannot_be_exported_leaves_no_file(module: nn.Module, words: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=words):
        export(module, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_emulated_device_has_no_stand_in_for_it() -> None:
    """onnxruntime, which simulates the others, reads no .pt2. Said before anything is loaded, with what is possible."""
    settings = Settings(model="resnet8", device="jetson-orin", emulate=True, attacks=("fgsm",))
    with pytest.raises(UsageError, match=r"torch-trt cannot be simulated for jetson-orin.*saved PyTorch program.*onnx-fp32.*trt-int8"):
        check_names(settings.model_copy(update={"flavours": ("onnx-fp32", FLAVOUR)}))
    check_names(settings.model_copy(update={"flavours": ("onnx-fp32", "trt-int8")}))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: the engine runs")
def test_a_bench_without_a_gpu_exports_proves_and_says_what_did_not_run(tmp_path: Path) -> None:
    settings = Settings(model="resnet8", flavours=(FLAVOUR,), attacks=("fgsm",), samples=4)
    record = bench(settings, tmp_path / "run", ["harness"])
    (engine,) = record.engines
    assert (engine.flavour, engine.runtime, engine.status) == (FLAVOUR, "torch-tensorrt", "refused")
    assert engine.error is not None and "no NVIDIA GPU" in engine.error
    assert engine.parity.passed
    assert engine.parity.lint == []
    assert engine.precision_evidence is None  # unknown
    assert engine.memory.artefact_bytes
    assert {attack.source for attack in record.attacks} == {"S0", "S1", "gate"}
    assert record.verdict is Verdict.ENGINE_FAILED
    assert record.verdict.exit_code == 4
    assert "not linted: the rules are about ONNX files" in (tmp_path / "run/log.txt").read_text()
    assert "no NVIDIA GPU" in (tmp_path / "run/report.md").read_text()
