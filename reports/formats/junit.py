"""The report as JUnit XML, for a CI server: claims, engines and gates as test cases."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree as ET

from harness.records import Outcome, RunRecord, Verdict
from reports.format import clean
from reports.run import Run
from reports.sections.requirements import limit, observed
from reports.sections.verdict import caveat

PASSING = (Verdict.HOLDS, Verdict.NOT_REFUTED)


@dataclass(frozen=True)
class Case:
    """One test case. `outcome` empty: it passed."""

    name: str
    outcome: Literal["", "failure", "error", "skipped"] = ""
    kind: str = ""
    text: str = ""


def to_junit(run: Run, *, strict: bool = False) -> str:
    """A suite of claims, one of requirements where there are any, one of engines, one of gates.

    What is INCONCLUSIVE is skipped: neither green nor an alarm. With `strict` it is a failure, but of the control, which the run's verdict
    does not count either. What a requirement asks for and was not measured is a failure in any case.
    """
    record = run.record
    root = ET.Element("testsuites", name=clean(f"{record.model.name} on {record.device.name}"))
    for name, cases in _suites(record, strict).items():
        root.append(_suite(name, list(cases), record))
    for total in ("tests", "failures", "errors", "skipped"):
        root.set(total, str(sum(int(suite.get(total, "0")) for suite in root)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suites(record: RunRecord, strict: bool) -> dict[str, Iterable[Case]]:
    asked: dict[str, Iterable[Case]] = {"requirements": _requirements(record, strict)} if record.qualification else {}
    return {"claims": _claims(record, strict), **asked, "engines": _engines(record), "gates": _gates(record)}


def _requirements(record: RunRecord, strict: bool) -> Iterable[Case]:
    for row in record.requirements:
        name = f"{row.name} ({row.engine})" if row.engine else row.name
        decided: Literal["", "failure"] = "" if row.outcome == Outcome.PASS else "failure"
        outcome: Literal["", "failure", "skipped"] = "skipped" if row.outcome == Outcome.INCONCLUSIVE and not strict else decided
        yield Case(name, outcome, row.outcome, f"limit: {limit(row)}; observed: {observed(row)}. {row.reason}")


def _claims(record: RunRecord, strict: bool) -> Iterable[Case]:
    for claim in record.claims:
        outcome: Literal["", "failure", "error", "skipped"] = (
            ""
            if claim.verdict in PASSING
            else "error"
            if claim.verdict == Verdict.ENGINE_FAILED
            else "skipped"
            if claim.verdict == Verdict.INCONCLUSIVE and (claim.control or not strict)
            else "failure"
        )
        yield Case(claim.statement, outcome, claim.verdict, claim.reason)
    if not record.claims:
        yield Case("no claim", "skipped", "not run", f"the run is at step '{record.status}'")


def _engines(record: RunRecord) -> Iterable[Case]:
    for engine in record.engines:
        yield Case(engine.name, "" if engine.status == "ok" else "error", engine.status, engine.error or "")


def _gates(record: RunRecord) -> Iterable[Case]:
    for gate in record.gates:
        outcome: Literal["", "failure", "skipped"] = {True: "", False: "failure", None: "skipped"}[gate.passed]  # type: ignore[assignment]
        yield Case(
            f"{gate.name} ({gate.engine})" if gate.engine else gate.name,
            outcome,
            "gate",
            f"{gate.observed}; limit: {gate.limit}. {gate.remedy}",
        )


def _suite(name: str, cases: list[Case], record: RunRecord) -> ET.Element:
    suite = ET.Element("testsuite", name=name, tests=str(len(cases)), timestamp=clean(record.created))
    for total, outcome in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(total, str(sum(case.outcome == outcome for case in cases)))
    if caveat(record):
        properties = ET.SubElement(suite, "properties")
        ET.SubElement(properties, "property", name="device", value=caveat(record))
    for case in cases:
        element = ET.SubElement(suite, "testcase", classname=f"harness.{name}", name=clean(case.name))
        if case.outcome:
            ET.SubElement(element, case.outcome, type=clean(case.kind), message=clean(case.text))
    return suite
