"""What every flavour must do, on every kind of network. A new line in `export.flavours.FLAVOURS` is tested by being there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor, nn
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3

from devices.host.saturation import saturates
from devices.worker.environment import describe_machine
from export.artefact import Artefact, load_artefact
from export.calibration import METHODS
from export.errors import ExportError
from export.evidence import precision_evidence
from export.flavours import FLAVOURS, export_flavour
from export.macs import macs
from export.parity import check_parity
from export.session import to_input
from export.simulate import open_artefact, simulated_logits
from harness.audit.gates import saturation
from harness.models.normalisation import with_normalisation
from harness.models.resnet import resnet8

pytestmark = pytest.mark.slow(60)

SOURCE = "5" * 64
CLASSES = 7
MINMAX = "minmax"


class Grouped(nn.Module):
    """Grouped, dilated and depthwise convolutions with a concatenation, on one channel and a picture that is not square."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=2, dilation=2)
        self.grouped = nn.Conv2d(16, 16, 3, groups=4, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, groups=16, padding=1)
        self.linear = nn.Linear(32 * 6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.cat([torch.relu(self.grouped(x)), torch.relu(self.depthwise(x))], dim=1)
        return self.linear(torch.nn.functional.avg_pool2d(x, (6, 6)).flatten(1))


def mobilenet() -> nn.Module:
    """MobileNetV3 of two blocks, which have what its eleven have; the whole is a case of classifiers.py."""
    block = partial(InvertedResidualConfig, use_se=True, dilation=1, width_mult=1.0)
    blocks = [block(16, 3, 16, 16, activation="RE", stride=2), block(16, 5, 64, 16, activation="HS", stride=1)]
    return MobileNetV3(blocks, last_channel=128, num_classes=CLASSES)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "grouped": (Grouped, (1, 20, 12)),
    "residual": (lambda: resnet8(CLASSES), (3, 32, 32)),
    "mobilenet": (mobilenet, (3, 64, 64)),
}


@dataclass(frozen=True)
class Subject:
    """One network that tells its images apart, one flavour of it, and what it was made from."""

    module: nn.Module
    flavour: str
    input_shape: tuple[int, int, int]
    images: NDArray[np.uint8]
    folder: Path
    artefact: Artefact
    fp32: Artefact

    def export(self, folder: Path, flavour: str | None = None, method: str = MINMAX, **changes: object) -> Artefact:
        arguments = {
            "input_shape": self.input_shape,
            "source_sha256": SOURCE,
            "calibration_images": self.images,
            "calibration_method": method,
            "folder": folder,
            **changes,
        }
        return export_flavour(self.module, flavour or self.flavour, **arguments)


def pictures(shape: tuple[int, int, int]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """56 noisy copies of one smooth pattern per class."""
    rng = np.random.default_rng(0)
    channels, height, width = shape
    coarse = torch.from_numpy(rng.uniform(0, 255, (CLASSES, channels, 4, 4)))
    patterns = nn.functional.interpolate(coarse, (height, width), mode="bilinear").permute(0, 2, 3, 1).numpy()
    labels = np.arange(56) % CLASSES
    return (patterns[labels] + rng.normal(0, 8, (56, height, width, channels))).clip(0, 255).astype(np.uint8), labels


def taught(module: nn.Module, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> nn.Module:
    """Random features with fitted batch norm and a least-squares head: its answers mean something, after a second and without training.

    Of every four input channels two are zero, so that the sparse flavours are possible too.
    """
    x = torch.from_numpy(to_input(images))
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.weight.shape[1] % 4 == 0:
            layer.weight.data[:, 2::4] = layer.weight.data[:, 3::4] = 0
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    head = [layer for layer in module.modules() if isinstance(layer, nn.Linear)][-1]
    features: list[Tensor] = []
    with torch.no_grad():
        module.train()
        module(x)
        module.eval()
        handle = head.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
        module(x)
        handle.remove()
        features[0][:, 2::4] = features[0][:, 3::4] = 0
        inputs = torch.cat([features[0], torch.ones(len(x), 1)], dim=1).double()
        targets = 8 * nn.functional.one_hot(torch.from_numpy(labels), CLASSES).double() - 4
        ridge = 1e-3 * (inputs**2).mean() * len(x)
        weight = torch.linalg.solve(inputs.T @ inputs + ridge * torch.eye(inputs.shape[1]), inputs.T @ targets).float()
        head.weight.copy_(weight[:-1].T)
        head.bias.copy_(weight[-1])
        right = module(x).argmax(1) == torch.from_numpy(labels)
    assert right.all(), "the network does not tell its images apart: what a flavour does to its answers would be chance"
    return module


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Subject]:
    """Each of `NETWORKS`, taught and exported once."""

    @cache
    def make(name: str) -> Subject:
        build, shape = NETWORKS[name]
        torch.manual_seed(0)
        images, labels = pictures(shape)
        module = taught(build(), images, labels)
        folder = tmp_path_factory.mktemp(name)
        arguments = {"input_shape": shape, "source_sha256": SOURCE, "calibration_images": images, "calibration_method": MINMAX}
        fp32 = export_flavour(module, "onnx-fp32", folder=folder, **arguments)
        return Subject(module, "onnx-fp32", shape, images, folder, fp32, fp32)

    return make


@pytest.fixture(scope="module", params=[(flavour, name) for name in NETWORKS for flavour in FLAVOURS], ids="-".join)
def subject(request: pytest.FixtureRequest, network: Callable[[str], Subject]) -> Subject:
    flavour, name = request.param
    base = network(name)
    return (
        base if flavour == "onnx-fp32" else replace(base, flavour=flavour, artefact=base.export(base.folder, flavour, cache_fp32=base.fp32))
    )


onnx_only = pytest.mark.parametrize(
    "subject", [(flavour, name) for name in NETWORKS for flavour in FLAVOURS if FLAVOURS[flavour].build], ids="-".join, indirect=True
)
"""What is asked of a graph. Of a saved program, see tests/export/test_pt2_flavour.py."""


def test_manifest(subject: Subject) -> None:
    artefact, kind = subject.artefact, FLAVOURS[subject.flavour]
    assert load_artefact(artefact.path.with_suffix(".json")) == artefact
    assert (artefact.flavour, artefact.precision, artefact.runtime) == (kind.name, kind.precision, kind.runtime)
    assert (artefact.source_sha256, artefact.input_shape, artefact.classes) == (SOURCE, subject.input_shape, CLASSES)
    assert artefact.path.name == f"{subject.flavour}-{artefact.sha256[:12]}.{suffix(subject.flavour)}"
    assert (artefact.calibration.get("n") == len(subject.images)) == kind.calibrated


def suffix(flavour: str) -> str:
    return "onnx" if FLAVOURS[flavour].build else "pt2"


@onnx_only
def test_file_is_plain_onnx(subject: Subject) -> None:
    model = onnx.load(subject.artefact.path)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain for entry in model.opset_import} == {""}


def test_file_names_no_path(subject: Subject) -> None:
    data = subject.artefact.path.read_bytes()
    for trace in (str(Path.cwd()), str(Path.home()), str(subject.folder), "site-packages", ".py"):
        assert trace.encode() not in data, trace


def test_the_batch_is_free(subject: Subject) -> None:
    """One image, three or eight at once: the same logits, image by image."""
    x = to_input(subject.images[:8])
    logits = open_artefact(subject.artefact)
    together = logits(x)
    for size in (1, 3):
        parts = np.concatenate([logits(x[start : start + size]) for start in range(0, 8, size)])
        np.testing.assert_allclose(parts, together, atol=1e-4)


def test_proof_passes(subject: Subject) -> None:
    found = check_parity(subject.module, subject.artefact, subject.images)
    assert found.passed, found


@pytest.mark.parametrize("network_name", NETWORKS)
@pytest.mark.parametrize("flavour", [name for name, kind in FLAVOURS.items() if (kind.precision, kind.runtime) == ("int8", "onnxruntime")])
def test_on_this_cpu_integers_are_exact_or_said_to_saturate(flavour: str, network_name: str, network: Callable[[str], Subject]) -> None:
    """Run as it is deployed, with its own options alone: equal to the bit to what its file says, but where the CPU saturates."""
    base = network(network_name)
    artefact = base.export(base.folder, flavour, cache_fp32=base.fp32)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    for key, value in artefact.session_config.items():
        options.add_session_config_entry(key, value)
    session = ort.InferenceSession(str(artefact.path), options, providers=["CPUExecutionProvider"])
    (found,) = session.run([artefact.output_name], {artefact.input_name: to_input(base.images)})
    exact = simulated_logits(artefact, base.images)
    saturating = flavour == "ort-int8" and saturates(describe_machine()["isa_flags"])
    assert (saturation(flavour, exact, found).passed is False) is saturating
    assert np.array_equal(found, exact) is not saturating


@onnx_only
def test_claimed_precision_is_real(subject: Subject, tmp_path: Path) -> None:
    """onnxruntime's is read from the graph it runs; TensorRT keeps to the file's own types."""
    if subject.artefact.runtime == "tensorrt":
        assert typed_mac_shares(subject.artefact.path) == {subject.artefact.precision}
        return
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(str(subject.artefact.path), options, providers=["CPUExecutionProvider"])
    found = precision_evidence(tmp_path / "optimised.onnx", subject.artefact)
    assert found.label == subject.artefact.precision
    assert found.integer_mac_share == (1.0 if subject.artefact.precision == "int8" else 0.0)


def typed_mac_shares(path: Path) -> set[str]:
    """Precisions of the layers with weights, but for convolutions of fewer than 16 input channels, which may stay in float."""
    model = onnx.load(path)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    maker = {name: node for node in model.graph.node for name in node.output}
    names = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.INT8: "int8"}
    found = set()
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            weight = stored[node.input[1] if node.input[1] in stored else maker[node.input[1]].input[0]]
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            if node.op_type == "Gemm" or weight.dims[1] * groups >= 16:
                found.add(names[weight.data_type])
    return found


@onnx_only
def test_macs_do_not_depend_on_the_flavour(subject: Subject) -> None:
    assert macs(subject.artefact.path) == hooked_macs(subject.module, subject.input_shape)


def hooked_macs(module: nn.Module, shape: tuple[int, int, int]) -> int:
    """Counted in PyTorch: output elements x weights that each of them reads."""
    total = 0

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        total += output.numel() * layer.weight[0].numel()

    handles = [layer.register_forward_hook(count) for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        module(torch.zeros(1, *shape))
    for handle in handles:
        handle.remove()
    return total


def test_exported_again_it_is_the_same_file(subject: Subject, tmp_path: Path) -> None:
    """Into another folder, which then holds the file and its manifest alone."""
    cached = None if subject.flavour == "onnx-fp32" else subject.fp32
    again = subject.export(tmp_path / "new" / "folder", cache_fp32=cached)
    assert again.sha256 == subject.artefact.sha256
    assert sorted(path.suffix for path in (tmp_path / "new" / "folder").iterdir()) == [".json", f".{suffix(subject.flavour)}"]


def test_what_lies_there_is_used_only_for_the_same_question(tmp_path: Path) -> None:
    """The same twin at another image size, or other weights, is another artefact."""
    module = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4, 3)).eval()

    def export(source: str = SOURCE, shape: tuple[int, int, int] = (1, 8, 8)) -> Artefact:
        images = np.zeros((1, *shape[1:], 1), np.uint8)
        arguments = {"calibration_images": images, "calibration_method": MINMAX, "folder": tmp_path}
        return export_flavour(module, "onnx-fp32", input_shape=shape, source_sha256=source, **arguments)

    first = export()
    written = first.path.stat().st_mtime_ns
    assert export() == first
    assert first.path.stat().st_mtime_ns == written
    assert export(shape=(1, 4, 8)).input_shape == (1, 4, 8)
    assert export("6" * 64).source_sha256 == "6" * 64


def test_twins_of_one_weights_file_are_told_apart(tmp_path: Path) -> None:
    """The same file behind another normalisation, or in another architecture whose weights look alike."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 5), nn.ReLU()).eval()
    network[1].weight.data[:, 2::4] = network[1].weight.data[:, 3::4] = 0  # for the sparse flavours
    alike = nn.Sequential(nn.Flatten(), network[1], nn.GELU()).eval()
    bare, half, other = network, with_normalisation(network, "0.5/0.5", 3), with_normalisation(network, "0.5/0.25", 3)
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), dtype=np.uint8)
    arguments = {"input_shape": (3, 4, 4), "source_sha256": SOURCE, "calibration_images": images, "calibration_method": MINMAX}
    for module in (bare, half, other, alike):
        cached = export_flavour(module, "onnx-fp32", folder=tmp_path, **arguments)
        for flavour in FLAVOURS:
            artefact = export_flavour(module, flavour, folder=tmp_path, cache_fp32=cached, **arguments)
            error = check_parity(module, artefact, images).max_logit_error
            assert error < (1e-5 if artefact.precision == "fp32" else 0.1), flavour
            assert export_flavour(module, flavour, folder=tmp_path, **arguments) == artefact
    assert len(list(tmp_path.glob("onnx-fp32-*.onnx"))) == 4
    fp32 = export_flavour(half, "onnx-fp32", folder=tmp_path, **arguments)
    with pytest.raises(ExportError, match="not the onnx-fp32 export of this twin"):
        export_flavour(other, "ort-int8", folder=tmp_path / "new", cache_fp32=fp32, **arguments)


def calibrated() -> list[tuple[str, str]]:
    """Every flavour of one network, and of the others one of each runtime: what is observed is the graph of the runtime."""
    every = [name for name, flavour in FLAVOURS.items() if flavour.calibrated]
    first = {FLAVOURS[name].runtime: name for name in reversed(every)}.values()
    return [(flavour, name) for name in NETWORKS for flavour in (every if name == "grouped" else first)]


@pytest.mark.parametrize("subject", calibrated(), ids="-".join, indirect=True)
@pytest.mark.parametrize("method", sorted(METHODS.keys() - {MINMAX}))
def test_every_calibration_keeps_the_answers(method: str, subject: Subject, tmp_path: Path) -> None:
    """Min-max is that of every other test here."""
    artefact = subject.export(tmp_path, method=method, cache_fp32=subject.fp32)
    assert artefact.calibration["method"] == method
    assert check_parity(subject.module, artefact, subject.images).passed


@pytest.mark.parametrize("subject", [(flavour, "grouped") for flavour in FLAVOURS], ids="-".join, indirect=True)
def test_refusals(subject: Subject, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"unknown flavour 'trt-int4'\. Choices: onnx-fp32"):
        subject.export(tmp_path, flavour="trt-int4")
    with pytest.raises(ExportError, match="unknown calibration method"):
        subject.export(tmp_path, method="median")
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot write"):
        subject.export(tmp_path / "file", cache_fp32=subject.fp32)
    if FLAVOURS[subject.flavour].build:
        with pytest.raises(ExportError, match="not the onnx-fp32 export of this twin"):
            subject.export(tmp_path, source_sha256="6" * 64, cache_fp32=subject.fp32)
    if FLAVOURS[subject.flavour].calibrated:
        with pytest.raises(ExportError, match="calibration images are"):
            subject.export(tmp_path, calibration_images=subject.images[:, :5], cache_fp32=subject.fp32)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
