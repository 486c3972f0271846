"""The contract of every rule: a planted fault breaks it, the healthy file does not, and the real runtime agrees with what it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from faults import FAULTS, Graph, quantized_type, rescale
from onnx import ModelProto, TensorProto
from real_tensorrt import RealTensorRT

from export.errors import ExportError
from export.lint import RULES, TARGETS, Finding, Rule, Severity, lint, rule_for
from export.lint.trt_operators import AFTER_JETPACK6, ELSEWHERE, KNOWN
from export.session import open_session

Save = Callable[[ModelProto], Path]
Exported = dict[str, ModelProto]

BY_ID: dict[str, tuple[str, Rule]] = {rule.id: (target, rule) for target, rules in RULES.items() for rule in rules}
FUSED = [f"ORT01{number}" for number in range(7)]  # rules about integer kernels that do not come about


@pytest.fixture
def planted(exported: Exported, saved: Save) -> Callable[[str], Path]:
    return lambda rule: saved(FAULTS[rule].planted(exported))


def found(path: Path, rule: str) -> list[Finding]:
    return lint(path, BY_ID[rule][0], sparse=FAULTS[rule].sparse)


def test_ids_are_unique_and_every_rule_has_a_fault() -> None:
    assert len(BY_ID) == sum(len(rules) for rules in RULES.values())
    assert set(FAULTS) == set(BY_ID)
    assert all(rule.id.startswith({"tensorrt": "TRT", "onnxruntime": "ORT"}[target]) for target, rule in BY_ID.values())


@pytest.mark.parametrize(
    ("base", "target", "known"), [("fp32", "tensorrt", {}), ("trt", "tensorrt", {"TRT021": 1}), ("ort", "onnxruntime", {})]
)
def test_what_this_program_writes_is_clean(base: str, target: str, known: dict[str, int], exported: Exported, saved: Save) -> None:
    """The first convolution has 3 channels and stays in float: a note, no more."""
    assert Counter(finding.rule for finding in lint(saved(exported[base]), target)) == known


@pytest.mark.parametrize("rule", FAULTS)
def test_the_fault_is_found(rule: str, planted: Callable[[str], Path], exported: Exported, saved: Save) -> None:
    before = (
        {(finding.rule, finding.node) for finding in found(saved(exported[FAULTS[rule].base]), rule)} if not FAULTS[rule].sparse else set()
    )
    new = [finding for finding in found(planted(rule), rule) if finding.rule == rule and (rule, finding.node) not in before]
    assert new, f"{rule} is not found"
    for finding in new:
        assert finding.severity is BY_ID[rule][1].severity
        assert finding.reason.endswith(".")
        assert finding.remedy == BY_ID[rule][1].remedy


@pytest.mark.parametrize("rule", [rule for rule in FAULTS if rule.startswith("TRT")])
def test_the_real_parser_agrees(rule: str, planted: Callable[[str], Path], tensorrt: RealTensorRT) -> None:
    """Where a rule says `refused`, parser or builder refuse the file, in words that name the rule. Where not, the parser takes it."""
    path = planted(rule)
    answer = tensorrt.parse(path)
    if answer.taken and BY_ID[rule][1].refused:
        answer = tensorrt.build(path)
    assert answer.taken != BY_ID[rule][1].refused, answer.said
    if answer.said:
        assert rule_for(answer.said) in {finding.rule for finding in found(path, rule)}, answer.said


@pytest.mark.parametrize("rule", [rule for rule in FAULTS if rule.startswith("ORT")])
def test_the_installed_onnxruntime_agrees(rule: str, planted: Callable[[str], Path]) -> None:
    path = planted(rule)
    if not BY_ID[rule][1].refused:
        open_session(str(path))
        return
    with pytest.raises(ExportError) as refusal:
        open_session(str(path))
    assert rule_for(str(refusal.value.__cause__)) == rule


def float_kernels(path: Path, folder: Path) -> Counter[str]:
    """What onnxruntime computes in float, in its own optimised graph."""
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(folder / "optimised.onnx"), 4
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    kernels = Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)
    return Counter({kind: kernels[kind] for kind in ("Conv", "FusedConv", "Gemm", "FusedGemm", "Add", "Concat", "Relu") if kernels[kind]})


@pytest.mark.parametrize("rule", FUSED)
def test_layouts_that_do_not_fuse_run_in_float(
    rule: str, planted: Callable[[str], Path], exported: Exported, saved: Save, tmp_path: Path
) -> None:
    assert not float_kernels(saved(exported["ort"]), tmp_path)
    assert float_kernels(planted(rule), tmp_path)


def test_the_layout_of_tensorrt_runs_in_float_there(exported: Exported, saved: Save, tmp_path: Path) -> None:
    """The reason for two flavours: most convolutions of a trt-int8 file are found, and are float kernels."""
    path = saved(exported["trt"])
    warned = {finding.node for finding in lint(path, "onnxruntime") if finding.rule in ("ORT010", "ORT011")}
    assert len(warned) >= 4
    assert float_kernels(path, tmp_path).total() >= len(warned)


def test_the_layout_of_onnxruntime_is_refused_by_tensorrt(exported: Exported, saved: Save, tensorrt: RealTensorRT) -> None:
    path = saved(exported["ort"])
    assert {"TRT001", "TRT002", "TRT003"} <= {finding.rule for finding in lint(path, "tensorrt")}
    assert not tensorrt.parse(path).taken


def test_unsigned_activations_are_taken_and_read_as_signed(exported: Exported, saved: Save, tensorrt: RealTensorRT) -> None:
    """Why TRT002 is an error even where the parser says nothing: with zero point 0 it makes an INT8 network of a UINT8 file."""
    model = ModelProto()
    model.CopyFrom(exported["trt"])
    graph = Graph(model)
    for node in graph.pair(graph.quantized_layer().input[0]):
        node.input[2] = "planted_zero"
    graph.store("planted_zero", np.uint8(0))
    path = saved(model)
    assert tensorrt.parse(path).taken
    assert "TRT002" in {finding.rule for finding in lint(path, "tensorrt")}


def test_fp8_is_refused_for_orin_like_gpus_only(exported: Exported, saved: Save, tensorrt: RealTensorRT) -> None:
    model = ModelProto()
    model.CopyFrom(exported["trt"])
    quantized_type(TensorProto.FLOAT8E4M3FN)(Graph(model))
    answer = tensorrt.build(saved(model))
    assert not answer.taken
    assert rule_for(answer.said) == "TRT005"


def unlike_channels(graph: Graph) -> None:
    layer = graph.layers()[0]
    layer.input[1] = graph.store("planted_weight", np.zeros((16, 4, 3, 3), np.float32))


def long_bias(graph: Graph) -> None:
    graph.layers("Gemm")[0].input[2] = graph.store("planted_bias", np.zeros(7, np.float32))


def no_data(graph: Graph) -> None:
    graph.layers()[0].input[0] = ""


def from_nowhere(graph: Graph) -> None:
    graph.layers()[0].input[0] = "nowhere"


@pytest.mark.parametrize("plant", [unlike_channels, long_bias, no_data, from_nowhere])
def test_what_does_not_fit_together_is_no_onnx(
    plant: Callable[[Graph], None], exported: Exported, saved: Save, tensorrt: RealTensorRT
) -> None:
    model = ModelProto()
    model.CopyFrom(exported["fp32"])
    plant(Graph(model))
    path = saved(model)
    assert not tensorrt.parse(path).taken
    for target in TARGETS:
        assert any(finding.rule.endswith("000") for finding in lint(path, target)), target


@pytest.mark.parametrize(("value", "refused"), [(0.0, True), (float("nan"), True), (float("inf"), False)])
def test_scales_that_are_no_numbers(value: float, refused: bool, exported: Exported, saved: Save, tensorrt: RealTensorRT) -> None:
    """An infinite scale passes the parser; the answer would be NaN."""
    model = ModelProto()
    model.CopyFrom(exported["trt"])
    graph = Graph(model)
    rescale(graph, graph.quantized_layer().input[0], lambda scale: np.full_like(scale, value))
    path = saved(model)
    assert "TRT007" in {finding.rule for finding in lint(path, "tensorrt")}
    assert tensorrt.parse(path).taken != refused


def test_known_operators_are_those_of_the_parser() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    log = trt.Logger(trt.Logger.ERROR)
    parser = trt.OnnxParser(trt.Builder(log).create_network(0), log)
    standard = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
    assert {name for name in standard if parser.supports_operator(name)} == KNOWN
    assert KNOWN >= AFTER_JETPACK6
    assert ELSEWHERE.keys() <= KNOWN


def test_errors_come_first(planted: Callable[[str], Path]) -> None:
    found_ = [finding.severity for finding in lint(planted("TRT001"), "tensorrt")]
    assert found_ == sorted(found_, key=list(Severity).index)
    assert set(found_) == {Severity.ERROR, Severity.INFO}


def test_words_of_no_rule_name_none() -> None:
    assert rule_for("something else went wrong") is None
    assert rule_for("false") == "TRT050"


def test_unknown_target(planted: Callable[[str], Path]) -> None:
    with pytest.raises(ExportError, match=f"unknown target 'openvino'. Choices: {', '.join(TARGETS)}"):
        lint(planted("TRT001"), "openvino")
