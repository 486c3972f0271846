"""A file of the user's own that is deployed as it is: taken in byte for byte, measured, attacked through its own graph, or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from commandline import harness
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config
from executorch.exir import to_edge_transform_and_lower
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import Tensor, nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from export.artefact import sha256_file
from export.lint import Severity, lint
from export.parity import check_parity
from export.quiet import quiet
from export.session import open_session, to_input
from harness.data.dataset import to_tensor
from harness.errors import UntrustedError, UsageError
from harness.models.engine_file import check_engine_file, quantized_nodes, take_in
from harness.models.load import Twin, load_twin
from harness.models.onnx_graph import read_onnx
from harness.records import RunRecord, Verdict
from harness.selftest.network import network as selftest_network
from harness.selftest.pictures import CALIBRATION, TEST, pictures
from harness.settings import make_settings
from harness.stages.subject import load_subject

pytestmark = pytest.mark.slow(60)

IMAGES = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)


class Calibration(CalibrationDataReader):
    """The images one by one, for the input `images`."""

    def __init__(self) -> None:
        self.left: Iterator[dict[str, np.ndarray]] = ({"images": to_input(IMAGES[i : i + 1])} for i in range(8))

    def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]
        return next(self.left, None)


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(128, 4)).eval()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network as model.onnx (batch free) and fixed.onnx (batch of one), each quantized by onnxruntime's own tool in both forms."""
    folder = tmp_path_factory.mktemp("engines")
    with quiet():
        for name, n, free in (("model", 2, {"dynamic_shapes": ({0: torch.export.Dim.DYNAMIC},)}), ("fixed", 1, {})):
            example = (torch.rand(n, 3, 16, 16),)
            torch.onnx.export(
                network(), example, folder / f"{name}.onnx", dynamo=True, external_data=False, input_names=["images"], verbose=False, **free
            )
            for form in (QuantFormat.QDQ, QuantFormat.QOperator):
                kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
                quantize_static(folder / f"{name}.onnx", folder / f"{name}-{form.name}.onnx", Calibration(), quant_format=form, **kinds)
        quantize_dynamic(folder / "model.onnx", folder / "dynamic.onnx", weight_type=QuantType.QInt8)
    labels = open_session(str(folder / "model.onnx")).run(None, {"images": to_input(IMAGES)})[0].argmax(1)
    np.savez(folder / "data.npz", images=IMAGES, labels=labels, calibration_images=255 - IMAGES)
    return folder


@pytest.fixture(scope="module")
def twin(place: Path) -> Twin:
    return load_twin(str(place / "model.onnx"))


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_the_file_keeps_its_bytes(form: str, place: Path, twin: Twin, tmp_path: Path) -> None:
    artefact = take_in(place / f"model-{form}.onnx", twin, tmp_path)
    assert artefact.sha256 == sha256_file(place / f"model-{form}.onnx") == sha256_file(artefact.path)
    assert (artefact.precision, artefact.runtime, artefact.flavour) == ("int8", "onnxruntime", f"model-{form}.onnx")
    assert (artefact.input_name, artefact.classes, artefact.options) == ("images", 4, {})
    assert take_in(place / f"model-{form}.onnx", twin, tmp_path) == artefact


def test_a_fixed_batch_is_left_open_and_no_answer_changes(place: Path, twin: Twin, tmp_path: Path) -> None:
    artefact = take_in(place / "fixed-QDQ.onnx", twin, tmp_path)
    assert artefact.options == {"freed_batch": 1}
    x, theirs = to_input(IMAGES), open_session(str(place / "fixed-QDQ.onnx"))
    one_by_one = np.concatenate([theirs.run(None, {"images": x[i : i + 1]})[0] for i in range(len(x))])
    np.testing.assert_array_equal(open_session(str(artefact.path)).run(None, {"images": x})[0], one_by_one)


def test_weights_beside_the_file_are_put_inside(place: Path, twin: Twin, tmp_path: Path) -> None:
    model = onnx.load(place / "model-QDQ.onnx")
    onnx.save(model, tmp_path / "apart.onnx", save_as_external_data=True, location="apart.bin", size_threshold=0)
    artefact = take_in(tmp_path / "apart.onnx", twin, tmp_path / "artefacts")
    x = to_input(IMAGES)
    expected = open_session(str(place / "model-QDQ.onnx")).run(None, {"images": x})[0]
    np.testing.assert_array_equal(open_session(str(artefact.path)).run(None, {"images": x})[0], expected)


def test_integer_operators_of_signed_activations_are_answered_for(place: Path, twin: Twin, tmp_path: Path) -> None:
    """onnxruntime has no kernels for these where it is told to multiply exactly, on CPUs of which others saturate."""
    path = tmp_path / "signed.onnx"
    with quiet():
        quantize_static(place / "model.onnx", path, Calibration(), quant_format=QuantFormat.QOperator)
    artefact = take_in(path, twin, tmp_path / "artefacts")
    seen = check_parity(twin.module, artefact, IMAGES)
    assert (seen.n, seen.passed) == (len(IMAGES), True)


def test_a_converter_that_appends_its_casts_is_understood(place: Path, twin: Twin, tmp_path: Path) -> None:
    """onnxruntime sorts nodes; ONNX's checker refuses those that are not."""
    half = convert_float_to_float16(onnx.load(place / "model.onnx"), keep_io_types=True)
    with pytest.raises(onnx.checker.ValidationError, match="topologically sorted"):
        onnx.checker.check_model(half)
    onnx.save(half, tmp_path / "half.onnx")
    artefact = take_in(tmp_path / "half.onnx", twin, tmp_path / "artefacts")
    assert not [finding for finding in lint(artefact.path, "onnxruntime") if finding.severity is Severity.ERROR]
    assert check_parity(twin.module, artefact, IMAGES).top1_agreement > 0.9
    logits = open_session(str(artefact.path)).run(None, {"images": to_input(IMAGES)})[0]
    with torch.no_grad():
        read = read_onnx(tmp_path / "half.onnx").eval()(to_tensor(IMAGES)).numpy()
    np.testing.assert_allclose(read, logits, atol=0.01)


@pytest.mark.parametrize("name", ["model", "fixed"])
def test_images_and_logits_in_float16_are_cast_and_no_answer_changes(name: str, place: Path, twin: Twin, tmp_path: Path) -> None:
    onnx.save(convert_float_to_float16(onnx.load(place / f"{name}.onnx")), tmp_path / "half.onnx")
    artefact = take_in(tmp_path / "half.onnx", twin, tmp_path / "artefacts")
    assert (artefact.precision, artefact.options["cast_ends"]) == ("fp16", True)
    x, theirs = to_input(IMAGES), open_session(str(tmp_path / "half.onnx"))
    one_by_one = np.concatenate([theirs.run(None, {"images": image[None].astype(np.float16)})[0] for image in x])
    found = open_session(str(artefact.path)).run(None, {artefact.input_name: x})[0]
    np.testing.assert_allclose(found, one_by_one.astype(np.float32), atol=2e-3)
    assert check_parity(twin.module, artefact, IMAGES).top1_agreement > 0.9
    with torch.no_grad():
        read = read_onnx(artefact.path).eval()(to_tensor(IMAGES)).numpy()
    np.testing.assert_allclose(read, found, atol=0.01)
    as_model = load_twin(str(tmp_path / "half.onnx"))
    with torch.no_grad():
        np.testing.assert_allclose(as_model.module(to_tensor(IMAGES)).numpy(), found, atol=0.01)
    assert "computes in float16" in " ".join(as_model.remarks)


class Shuffled(nn.Module):
    """With sizes in its forward, which the legacy exporter writes as nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, stride=4), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        logits: Tensor = self.last(x.mean((2, 3)))
        return logits


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("name", ["legacy.onnx", "LEGACY.ONNX"])
def test_a_file_of_the_legacy_exporter_has_its_batch_left_open(quantized: bool, name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, file = Shuffled().eval(), tmp_path / name
    with quiet():
        torch.onnx.export(network, (torch.rand(1, 3, 16, 16),), str(file), dynamo=False, input_names=["images"])
    assert any(node.op_type == "Constant" for node in onnx.load(file).graph.node)
    twin, x = load_twin(str(file)), to_input(IMAGES)
    if quantized:
        quantize_static(file, tmp_path / f"int8-{name}", Calibration(), activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
        file = tmp_path / f"int8-{name}"
    check_engine_file(file)
    artefact = take_in(file, twin, tmp_path / "artefacts")
    assert (artefact.options, artefact.precision, artefact.path.suffix) == ({"freed_batch": 1}, "int8" if quantized else "fp32", ".onnx")
    theirs = open_session(str(file))
    one_by_one = np.concatenate([theirs.run(None, {"images": x[i : i + 1]})[0] for i in range(len(x))])
    np.testing.assert_allclose(open_session(str(artefact.path)).run(None, {"images": x})[0], one_by_one, atol=1e-5)


def test_a_file_that_changed_meanwhile_is_not_gone_on_with(place: Path, twin: Twin, tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes((place / "model-QDQ.onnx").read_bytes())
    take_in(tmp_path / "mine.onnx", twin, tmp_path / "artefacts")
    (tmp_path / "mine.onnx").write_bytes((place / "model.onnx").read_bytes())
    with pytest.raises(UntrustedError, match=r"mine\.onnx changed since the run was begun: sha256 .* Start a new run"):
        take_in(tmp_path / "mine.onnx", twin, tmp_path / "artefacts")


def test_the_whole_run(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Quantized files of every form are attacked through their own graphs; of one with an operator that is not read it is said that this
    cannot be."""
    model = onnx.load(place / "model.onnx")
    node, end = model.graph.node[-1], model.graph.output[0].name
    node.output[0] = "inner"
    model.graph.node.extend(
        [helper.make_node("SequenceConstruct", ["inner"], ["all"]), helper.make_node("SequenceAt", ["all", "first"], [end])]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(0), "first"))
    onnx.save(model, tmp_path / "sequence.onnx")
    options = [
        "--device",
        "null",
        "--data",
        str(place / "data.npz"),
        "--attack",
        "fgsm",
        "--samples",
        "8",
        "--batch",
        "1",
        "--eps",
        "1/255",
    ]
    names = ["model-QDQ.onnx", "model-QOperator.onnx", "dynamic.onnx", "sequence.onnx"]
    files = [word for name in names for word in ("--engine", str((tmp_path if name == names[-1] else place) / name))]
    assert harness("bench", "--model", str(place / "model.onnx"), *options, *files, "--out", str(tmp_path / "run")) in (0, 1, 3)
    record = RunRecord.load(tmp_path / "run")
    assert [engine.name for engine in record.engines] == ["onnx-fp32", *names]
    assert [engine.artefact_sha256 for engine in record.engines[1:]] == [sha256_file(Path(file)) for file in files[1::2]]
    for engine in record.engines[1:3]:
        assert engine.parity is not None and engine.parity.passed
        assert engine.precision_evidence is not None and engine.precision_evidence.label == "int8"
    assert {attack.target for attack in record.attacks if attack.source == "S3"} == set(names[:3])
    assert {attack.target for attack in record.attacks if attack.source == "S4"} == {"twin", *(engine.name for engine in record.engines)}
    by_file = {(gate.engine, gate.name): gate for gate in record.gates if gate.name in ("file fidelity", "saturation", "timed outputs")}
    assert by_file["model-QDQ.onnx", "file fidelity"].passed is not None
    assert by_file["dynamic.onnx", "saturation"].passed is None
    assert by_file["dynamic.onnx", "file fidelity"].passed is True
    timed = by_file["dynamic.onnx", "timed outputs"]
    assert timed.passed is None and "to several images at once" in timed.observed
    assert "it is asked for one at a time" in (said := capsys.readouterr().err)
    assert "its graph cannot be attacked (S3), so that its claim can fail but not hold" in said and "SequenceAt" in said


class Switched(nn.Module):
    """The self-test's network; on images rougher than any clean one, as attacks make them, one trained without an adversary."""

    def __init__(self) -> None:
        super().__init__()
        self.robust, self.other = selftest_network(), selftest_network("standard")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = (x.diff(dim=axis).abs().mean((1, 2, 3)) for axis in (2, 3))
        return torch.where((sum(steps) > 0.0885)[:, None], self.other(x), self.robust(x))


def test_a_float_file_is_attacked_through_its_own_graph_and_may_count_its_logits_otherwise(tmp_path: Path) -> None:
    """On clean images the two files name what the model names: one is fooled on every image along its own gradients, one ends with a
    log-softmax.
    """
    sound = nn.Sequential(selftest_network(), nn.LogSoftmax(1)).eval()
    example, free = (torch.rand(2, 3, 16, 16),), {"dynamic_shapes": ({0: torch.export.Dim.DYNAMIC},)}
    for name, module in {"model": selftest_network(), "switched": Switched().eval(), "log": sound}.items():
        with quiet():
            torch.onnx.export(module, example, tmp_path / f"{name}.onnx", dynamo=True, external_data=False, verbose=False, **free)
    test, calibration = pictures(TEST, 400), pictures(CALIBRATION, 128)
    np.savez(tmp_path / "data.npz", images=test.images, labels=test.labels, calibration_images=calibration.images)
    options = ["--data", str(tmp_path / "data.npz"), "--device", "null", "--eps", "8/255", "--samples", "128", "--attack", "pgd"]
    files = [word for name in ("switched", "log") for word in ("--engine", str(tmp_path / f"{name}.onnx"))]
    assert harness("bench", "--model", str(tmp_path / "model.onnx"), *options, *files, "--out", str(tmp_path / "run")) == 1
    claims = {claim.engine: claim for claim in RunRecord.load(tmp_path / "run").claims}
    assert {name: (claim.verdict, claim.sources) for name, claim in claims.items()} == {
        "onnx-fp32": (Verdict.HOLDS, ["S1", "S4"]),
        "switched.onnx": (Verdict.FAILS, ["S1", "S3", "S4"]),
        "log.onnx": (Verdict.HOLDS, ["S1", "S3", "S4"]),
    }
    assert claims["switched.onnx"].engine_robust is not None and claims["switched.onnx"].engine_robust.accuracy < 0.05


def test_a_quantized_file_as_the_model_is_not_quantized_again(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, data = str(place / "model-QDQ.onnx"), ["--data", str(place / "data.npz"), "--device", "null"]
    assert harness("bench", "--model", file, *data) == 2
    said = capsys.readouterr().err
    assert "is quantized already (" in said and "ort-int8 would quantize it a second time" in said and f"--engine {file}" in said


def other_images() -> onnx.ModelProto:
    return graph([helper.make_node("Flatten", ["x"], ["y"])], ["n", 1, 2, 2], ["n", 4])


def other_classes() -> onnx.ModelProto:
    return graph([helper.make_node("Flatten", ["x"], ["y"])], ["n", 3, 16, 16], ["n", 768])


def pictures_out() -> onnx.ModelProto:
    return graph([helper.make_node("Relu", ["x"], ["y"])], ["n", 3, 16, 16], ["n", 3, 16, 16])


def batch_inside() -> onnx.ModelProto:
    """It adds the images of a batch up."""
    nodes = [helper.make_node("ReduceSum", ["x"], ["s"], keepdims=1), helper.make_node("Flatten", ["s"], ["y"])]
    return graph(nodes, [2, 3, 16, 16], [1, 1])


def graph(nodes: list[onnx.NodeProto], taken: list[str | int], given: list[str | int]) -> onnx.ModelProto:
    kind = onnx.TensorProto.FLOAT
    values = (helper.make_tensor_value_info(name, kind, sizes) for name, sizes in (("x", taken), ("y", given)))
    source, target = values
    return helper.make_model(helper.make_graph(nodes, "g", [source], [target]), opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (other_images, r"takes x FLOAT \(n, 1, 2, 2\) .*takes images of 3x16x16"),
        (other_classes, "names 768 classes, the model model 4"),
        (pictures_out, r"answers float32 \(2, 3, 16, 16\) to two images"),
        (batch_inside, "takes batches of 2 alone, and this is part of its graph.*free batch"),
    ],
)
def test_a_file_of_another_model_is_refused(made: Callable[[], onnx.ModelProto], message: str, twin: Twin, tmp_path: Path) -> None:
    onnx.save(made(), tmp_path / "other.onnx")
    with pytest.raises(UsageError, match=message):
        take_in(tmp_path / "other.onnx", twin, tmp_path / "artefacts")


def test_other_images_are_refused_before_anything_is_exported(tmp_path: Path) -> None:
    onnx.save(other_images(), tmp_path / "other.onnx")
    settings = make_settings(model="resnet8", flavours=("onnx-fp32", f"file:{tmp_path / 'other.onnx'}"))
    with pytest.raises(UsageError, match=r"takes x FLOAT \(n, 1, 2, 2\)"):
        load_subject(settings)


WEIGHT = np.random.default_rng(0).integers(-127, 128, (4, 768)).astype(np.int8)
SCALE = np.array([0.001, 0.002, 0.003, 0.004], np.float32)
QUANTIZED = {"w": WEIGHT, "s": SCALE}


def stored(nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray], batch: str | int = "n") -> onnx.ModelProto:
    """A classifier of "x" that makes "w2" (4, 768) of what it stores."""
    ends = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w2"], ["y"], transB=1)]
    made = graph([*nodes, *ends], [batch, 3, 16, 16], [batch, 4])
    made.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in tensors.items())
    return made


DEQUANTIZE = [helper.make_node("DequantizeLinear", ["w", "s"], ["w2"], axis=0)]
BY_HAND = [helper.make_node("Cast", ["w"], ["c"], to=onnx.TensorProto.FLOAT), helper.make_node("Mul", ["c", "s"], ["w2"])]


@pytest.mark.parametrize("batch", ["n", 1])
@pytest.mark.parametrize(("nodes", "tensors"), [(DEQUANTIZE, QUANTIZED), (BY_HAND, {"w": WEIGHT, "s": SCALE[:, None]})])
def test_weights_alone_in_eight_bits(
    nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray], batch: str | int, twin: Twin, tmp_path: Path
) -> None:
    """A scale for each channel and no zero point: onnxruntime fails on it where it is told to multiply exactly."""
    onnx.save(stored(nodes, tensors, batch), tmp_path / "q.onnx")
    artefact = take_in(tmp_path / "q.onnx", twin, tmp_path / "artefacts")
    assert artefact.precision == "int8"
    images = to_input(IMAGES)
    logits = open_session(str(artefact.path)).run(None, {"x": images})[0]
    np.testing.assert_allclose(logits, images.reshape(len(images), -1) @ (WEIGHT * SCALE[:, None]).T, atol=1e-4)


def test_half_precision_is_seen_wherever_it_is_stored(twin: Twin, tmp_path: Path) -> None:
    """In a node, or cast when the file is opened: it was called fp32, and held to float32's limits."""
    cast = [helper.make_node("Cast", ["w2"], ["w3"], to=onnx.TensorProto.FLOAT16), helper.make_node("Cast", ["w3"], ["w4"], to=1)]
    made = stored([], {"w2": WEIGHT * SCALE[:, None]})
    made.graph.node.extend(cast)
    made.graph.node[1].input[1] = "w4"
    onnx.save(made, tmp_path / "half.onnx")
    assert take_in(tmp_path / "half.onnx", twin, tmp_path / "artefacts").precision == "fp16"


def test_an_output_may_be_declared_without_its_shape(twin: Twin, tmp_path: Path) -> None:
    made = stored(DEQUANTIZE, QUANTIZED, 1)
    made.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(made, tmp_path / "q.onnx")
    assert take_in(tmp_path / "q.onnx", twin, tmp_path / "artefacts").options == {"freed_batch": 1}


def test_a_file_of_a_fixed_batch_that_does_not_run_is_told_so(twin: Twin, tmp_path: Path) -> None:
    """Its batch was blamed."""
    onnx.save(stored(DEQUANTIZE, {"w": WEIGHT[:, 1:], "s": SCALE}, 1), tmp_path / "q.onnx")
    with pytest.raises(UsageError, match=r"does not run on 1 image\(s\) of 3x16x16: .*Gemm"):
        take_in(tmp_path / "q.onnx", twin, tmp_path / "artefacts")


def test_quantizers_are_found_in_functions_and_branches_too() -> None:
    """Else a quantized engine would be called float, and hold without an attack on its own graph."""
    pair = [helper.make_node("QuantizeLinear", ["x", "s"], ["q"]), helper.make_node("DequantizeLinear", ["q", "s"], ["y"])]
    function = helper.make_function("mine", "Net", ["x", "s"], ["y"], pair, [helper.make_opsetid("", 20)])
    called = graph([helper.make_node("Net", ["x", "s"], ["y"], domain="mine")], ["n", 3, 16, 16], ["n", 4])
    called.functions.append(function)
    branch = helper.make_graph(pair, "branch", [], [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)])
    chosen = graph([helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)], ["n", 3, 16, 16], ["n", 4])
    assert quantized_nodes(called) == {"QuantizeLinear": 1, "DequantizeLinear": 1}
    assert quantized_nodes(chosen) == {"QuantizeLinear": 2, "DequantizeLinear": 2}


def test_a_folder_is_no_engine_file(tmp_path: Path) -> None:
    for name in ("saved.plan", "saved.onnx"):
        (tmp_path / name).mkdir()
        with pytest.raises(UsageError, match="is not a file"):
            check_engine_file(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.onnx", None, "there is no such file"),
        ("engine.tflite", b"TFL3", r"expected \.onnx, \.plan.*--flavour exec:COMMAND"),
        ("engine.pte", b"\0\0\0\0XXXX", "is no ExecuTorch program"),
        ("engine.plan", b"", "is empty"),
        ("ENGINE.PLAN", b"", "is empty"),
        ("torn.onnx", b"\x08\x0a", "is not an ONNX file"),
    ],
)
def test_what_is_no_engine_file_is_refused_before_any_work(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message):
        check_engine_file(tmp_path / name)


def int8_program(network: nn.Module) -> bytes:
    """A program of ExecuTorch for one image at a time, quantized by XNNPACK's own quantizer."""
    images = torch.from_numpy(to_input(IMAGES))
    config = get_symmetric_quantization_config(is_per_channel=True)
    observed = prepare_pt2e(torch.export.export(network, (images[:1],)).module(), XNNPACKQuantizer().set_global(config))
    for image in images.split(1):
        observed(image)
    program = torch.export.export(convert_pt2e(observed), (images[:1],))
    return bytes(to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch().buffer)


def test_a_program_that_its_runtime_alone_can_read(place: Path, tmp_path: Path) -> None:
    """It is judged by its answers; that it was not attacked through its own graph keeps its claim from holding."""
    (tmp_path / "mine.pte").write_bytes(int8_program(network()))
    options = [
        "--device",
        "null",
        "--data",
        str(place / "data.npz"),
        "--attack",
        "fgsm",
        "--samples",
        "8",
        "--batch",
        "3",
        "--eps",
        "1/255",
    ]
    given = ["--model", str(place / "model.onnx"), "--engine", str(tmp_path / "mine.pte"), "--out", str(tmp_path / "run")]
    assert harness("bench", *options, *given) == 3
    record = RunRecord.load(tmp_path / "run")
    engine = record.engines[1]
    assert (engine.name, engine.runtime, engine.runtime_version, engine.status) == ("mine.pte", "executorch", version("executorch"), "ok")
    assert (engine.artefact_sha256, engine.parity) == (sha256_file(tmp_path / "mine.pte"), None)
    passed = {gate.name: gate.passed for gate in record.gates if gate.engine == "mine.pte"}
    assert (passed["engine parity"], passed["precision evidence"], "file fidelity" in passed) == (True, None, False)
    claim = next(claim for claim in record.claims if claim.engine == "mine.pte")
    assert claim.verdict != "HOLDS" and not claim.control


def test_a_closed_engine_is_not_simulated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.plan").write_bytes(b"any")
    assert harness("bench", "--device", "raspberry-pi-4", "--emulate", "--engine", str(tmp_path / "mine.plan")) == 2
    assert "nothing here can look into the file" in " ".join(capsys.readouterr().err.split())
