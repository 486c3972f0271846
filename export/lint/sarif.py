"""Findings as SARIF 2.1.0, which code hosts show beside a change (OASIS, https://docs.oasis-open.org/sarif/sarif/v2.1.0/)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from export.lint.finding import Finding, Rule, Severity

LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def to_sarif(file: Path, findings: Sequence[Finding], rules: Sequence[Rule], version: str) -> str:
    """A log of one run.

    Args:
        file: the file that was checked, as it was named on the command line.
        findings: what was found.
        rules: all rules of the target: a viewer shows what passed too.
        version: of this program.
    """
    order = sorted(rules, key=lambda rule: rule.id)
    index = {rule.id: position for position, rule in enumerate(order)}
    driver = {"name": "edge-harness lint", "version": version, "rules": [_rule(rule) for rule in order]}
    results = [_result(file, finding, index) for finding in findings]
    log = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0"}
    return json.dumps({**log, "runs": [{"tool": {"driver": driver}, "results": results}]}, indent=1)


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "help": {"text": rule.remedy},
        "defaultConfiguration": {"level": LEVELS[rule.severity]},
    }


def _result(file: Path, finding: Finding, index: dict[str, int]) -> dict[str, Any]:
    place: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": quote(file.as_posix())}}}
    if finding.node:
        place["logicalLocations"] = [{"name": finding.node, "kind": "member"}]
    return {
        "ruleId": finding.rule,
        "ruleIndex": index[finding.rule],
        "level": LEVELS[finding.severity],
        "message": {"text": f"{finding.reason} {finding.remedy}"},
        "locations": [place],
    }
