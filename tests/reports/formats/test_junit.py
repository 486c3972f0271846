from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from synthetic import make_run

from harness.records import Claim, Verdict
from reports.render import render

OUTCOMES = {
    Verdict.HOLDS: None,
    Verdict.NOT_REFUTED: None,
    Verdict.INCONCLUSIVE: "skipped",
    Verdict.UNTRUSTED: "failure",
    Verdict.DEGRADED: "failure",
    Verdict.FAILS: "failure",
    Verdict.ENGINE_FAILED: "error",
}


@pytest.mark.parametrize("variant", ["plain", "hostile", "unfinished", "bare"])
def test_the_counts_are_those_of_the_cases(rendered, variant):
    root = ET.parse(rendered(variant, "junit")).getroot()
    assert [suite.tag for suite in root] == ["testsuite"] * 3
    for scope in (root, *root):
        assert int(scope.get("tests")) == len(list(scope.iter("testcase")))
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(scope.get(attribute)) == len(list(scope.iter(tag)))


def test_gates_failed_and_not_run_are_told_apart(rendered):
    gates = ET.parse(rendered("plain", "junit")).getroot().find("testsuite[@name='gates']")
    assert {case.get("name"): [child.tag for child in case] for case in gates.iter("testcase")} == {
        "clean parity (ort-int8)": [],
        "attack converged": ["failure"],
        "Square against white box (ort-int8)": ["skipped"],
    }


@pytest.mark.parametrize("verdict", list(Verdict))
def test_only_a_verdict_that_refutes_nothing_is_green(tmp_path, verdict):
    claim = Claim(
        statement="stays robust",
        engine="ort-int8",
        verdict=verdict,
        eps_exact="8/255",
        twin_robust=None,
        engine_robust=None,
        gap=None,
        lower=None,
        upper=None,
        margin=0.05,
        n=1,
        n_required=None,
        p_value=None,
        mcnemar_p=None,
        relative_robustness=None,
        relative_ci95=None,
        reason="because",
    )
    make_run(tmp_path / "run", claims=[claim], verdict=verdict)
    case = ET.parse(render(tmp_path / "run", ["junit"])["junit"]).getroot().find("testsuite[@name='claims']/testcase")
    assert [child.tag for child in case] == ([OUTCOMES[verdict]] if OUTCOMES[verdict] else [])
    strict = ET.parse(render(tmp_path / "run", ["junit"], strict=True)["junit"]).getroot().find("testsuite[@name='claims']/testcase")
    assert [child.tag for child in strict] == (["failure"] if verdict == Verdict.INCONCLUSIVE else [child.tag for child in case])
    assert all((child.get("type"), child.get("message")) == (verdict, "because") for child in case)


def test_a_crashed_engine_is_an_error_with_its_words(rendered):
    error = ET.parse(rendered("hostile", "junit")).getroot().find("testsuite[@name='engines']/testcase/error")
    assert error.get("type") == "crashed"
    assert "SIGSEGV" in error.get("message") and "<script>" in error.get("message")


@pytest.mark.parametrize(("variant", "word"), [("synthetic", "SYNTHETIC"), ("emulated", "EMULATED")])
def test_a_device_that_is_not_real_is_named(rendered, variant, word):
    root = ET.parse(rendered(variant, "junit")).getroot()
    assert all(suite.find("properties/property").get("value").startswith(word) for suite in root)


def test_a_run_without_claims_is_skipped_not_green(rendered):
    root = ET.parse(rendered("unfinished", "junit")).getroot()
    assert root.find("testsuite[@name='claims']/testcase/skipped") is not None
