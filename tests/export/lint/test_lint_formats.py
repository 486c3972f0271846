"""`harness lint --format`: what code hosts read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from export.lint import RULES, Finding, Severity
from export.lint.annotations import to_annotations
from export.lint.sarif import to_sarif

FINDINGS = [
    Finding("TRT001", Severity.ERROR, "conv::1,\nb", "100% of it,\r\nis wrong.", "Mend it."),
    Finding("TRT002", Severity.WARNING, "", "Slow.", "Wait."),
    Finding("TRT003", Severity.INFO, "relu", "Good to know.", "Nothing."),
]


def test_an_annotation_is_one_line_whatever_a_name_holds():
    lines = to_annotations(Path("models/a,b:c.onnx"), FINDINGS).splitlines()
    assert lines[0] == "::error file=models/a%2Cb%3Ac.onnx,title=TRT001::conv::1,%0Ab: 100%25 of it,%0D%0Ais wrong. Mend it."
    assert [line.split(" ")[0] for line in lines] == ["::error", "::warning", "::notice"]
    assert lines[1].endswith("::Slow. Wait.")


def test_sarif_has_every_rule_and_every_finding_at_its_place():
    log = json.loads(to_sarif(Path("models/a.onnx"), FINDINGS, RULES["tensorrt"], "1.0"))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert {rule["id"] for rule in rules} == {rule.id for rule in RULES["tensorrt"]}
    assert [result["level"] for result in run["results"]] == ["error", "warning", "note"]
    for result, finding in zip(run["results"], FINDINGS, strict=True):
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == finding.rule
        (place,) = result["locations"]
        assert place["physicalLocation"]["artifactLocation"]["uri"] == "models/a.onnx"
        assert [part["name"] for part in place.get("logicalLocations", [])] == ([finding.node] if finding.node else [])


def test_a_name_with_a_space_or_a_percent_is_a_valid_address():
    (run,) = json.loads(to_sarif(Path("my models/100%.onnx"), FINDINGS[:1], RULES["tensorrt"], "1.0"))["runs"]
    assert run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "my%20models/100%25.onnx"


@pytest.mark.parametrize("target", RULES)
def test_a_file_without_findings_is_a_valid_log(target):
    (run,) = json.loads(to_sarif(Path("a.onnx"), [], RULES[target], "1.0"))["runs"]
    assert run["results"] == []
