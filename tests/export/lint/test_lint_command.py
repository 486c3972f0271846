"""`harness lint`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from faults import FAULTS
from onnx import ModelProto

from devices.host.profile import load_profile
from export.artefact import Artefact, sha256_file
from export.errors import ExportError
from export.lint import RULES
from export.session import EXACT_INTEGERS
from harness import cli
from harness.stages.export import _lint

Exported = dict[str, ModelProto]
Save = Callable[[ModelProto], Path]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["harness", "lint", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return stop.value.code if isinstance(stop.value.code, int) else 0, out, err

    return call


def test_text_and_exit_codes(run: Callable[..., tuple[int, str, str]], exported: Exported, saved: Save, tmp_path: Path) -> None:
    clean = saved(exported["trt"])
    assert run(clean, "--target", "tensorrt")[::2] == (0, "")
    bad = saved(FAULTS["TRT001"].planted(exported))
    code, out, err = run(bad)
    assert (code, err) == (3, "")
    assert out.splitlines()[0].startswith("error   TRT001 ")
    assert out.splitlines()[-1] == f"{bad}, for tensorrt: error 2, warning 0, info 1"
    code, out, err = run(tmp_path / "none.onnx")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "none.onnx" in err
    code, _, err = run(clean, "--target", "openvino")
    assert code == 2
    assert "Choices: tensorrt, onnxruntime" in err


def test_many_findings_of_a_rule_are_cut_short(run: Callable[..., tuple[int, str, str]], exported: Exported, saved: Save) -> None:
    path = saved(exported["ort"])
    every = json.loads(run(path, "--target", "tensorrt", "--json")[1])["findings"]
    shown = [line for line in run(path, "--target", "tensorrt")[1].splitlines() if line.startswith("error   TRT002")]
    total = sum(finding["rule"] == "TRT002" for finding in every)
    assert total > len(shown) == 5


def test_json_has_everything_and_nothing_else_is_printed(run: Callable[..., tuple[int, str, str]], exported: Exported, saved: Save) -> None:
    code, out, _ = run(saved(FAULTS["TRT001"].planted(exported)), "--json")
    found = json.loads(out)
    assert code == 3
    assert (found["target"], found["error"], found["warning"], found["info"]) == ("tensorrt", 2, 0, 1)
    assert {"rule", "severity", "node", "reason", "remedy"} == set(found["findings"][0])


def test_sparsity_is_checked_where_it_is_claimed(run: Callable[..., tuple[int, str, str]], exported: Exported, saved: Save) -> None:
    path = saved(FAULTS["TRT030"].planted(exported))
    assert run(path)[0] == 0
    code, out, _ = run(path, "--sparse")
    assert code == 3
    assert "TRT030" in out


def test_every_rule_is_listed(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = run("--rules")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [
        identifier for rules in RULES.values() for identifier in sorted(rule.id for rule in rules)
    ]


@pytest.fixture
def artefact(tmp_path: Path) -> Callable[..., Artefact]:
    def make(model: ModelProto, runtime: str, **options: object) -> Artefact:
        path = tmp_path / "artefact.onnx"
        onnx.save(model, path)
        made = Artefact(
            "planted", path, sha256_file(path), "0" * 64, "1" * 64, "int8", runtime, "images", (3, 12, 8), "logits", 5, {}, options
        )
        made.save()
        return made

    return make


def test_an_exported_file_is_linted_for_the_runtime_in_its_manifest(
    run: Callable[..., tuple[int, str, str]], exported: Exported, artefact: Callable[..., Artefact]
) -> None:
    made = artefact(exported["ort"], "onnxruntime")
    assert ", for onnxruntime: " in run(made.path)[1]


def test_the_export_fails_with_the_finding(exported: Exported, artefact: Callable[..., Artefact]) -> None:
    made = artefact(FAULTS["TRT001"].planted(exported), "tensorrt")
    with pytest.raises(ExportError, match=r"TRT001 .*zero point 3"):
        _lint(made, load_profile("host"), lambda line: None)


def test_the_export_records_what_is_no_error(exported: Exported, artefact: Callable[..., Artefact]) -> None:
    said: list[str] = []
    findings = _lint(artefact(FAULTS["TRT022"].planted(exported), "tensorrt"), load_profile("host"), said.append)
    assert [finding.rule for finding in findings] == ["TRT022", "TRT021"]
    assert [line.split()[2] for line in said] == ["TRT022"]


@pytest.mark.parametrize(("device", "warned"), [("x86-avx2", True), ("raspberry-pi-4", False), ("x86-sse4", False)])
def test_saturation_is_warned_of_only_where_the_target_can_saturate(
    device: str, warned: bool, run: Callable[..., tuple[int, str, str]], exported: Exported, artefact: Callable[..., Artefact]
) -> None:
    file = FAULTS["ORT020"].planted(exported)
    plain = artefact(file, "onnxruntime")
    assert ("ORT020" in {finding.rule for finding in _lint(plain, load_profile(device), lambda line: None)}) is warned
    assert ("ORT020" in run(plain.path, "--device", device)[1]) is warned
    assert "ORT020" in run(plain.path)[1], "a device nobody named may have any CPU"
    precise = artefact(file, "onnxruntime", session_config=EXACT_INTEGERS)
    assert "ORT020" not in {finding.rule for finding in _lint(precise, load_profile(device), lambda line: None)}
    assert "ORT020" not in run(precise.path)[1], "its manifest says how it is run"


def test_the_export_checks_claimed_sparsity(exported: Exported, artefact: Callable[..., Artefact]) -> None:
    with pytest.raises(ExportError, match="TRT030"):
        _lint(artefact(FAULTS["TRT030"].planted(exported), "tensorrt", sparse=True), load_profile("host"), lambda line: None)


def test_formats_for_code_hosts(run: Callable[..., tuple[int, str, str]], exported: Exported, saved: Save) -> None:
    """The same findings and the same exit code, in another form."""
    bad = saved(FAULTS["TRT001"].planted(exported))
    every = json.loads(run(bad, "--json")[1])["findings"]
    code, out, err = run(bad, "--format", "sarif")
    assert (code, err) == (3, "")
    assert [result["ruleId"] for result in json.loads(out)["runs"][0]["results"]] == [finding["rule"] for finding in every]
    code, out, err = run(bad, "--format", "github")
    assert (code, err) == (3, "")
    assert [line.split("title=")[1].split("::")[0] for line in out.splitlines()] == [finding["rule"] for finding in every]
    code, out, err = run(bad, "--format", "xml")
    assert (code, out) == (2, "")
    assert "Choices: github, sarif, text" in err
