"""Findings as annotations of a GitHub Actions run: `::error file=…,title=…::message`, a line each.

The escapes are those of https://github.com/actions/toolkit (`command.ts`): a line end in a name would begin another command.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from export.lint.finding import Finding, Severity

COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def to_annotations(file: Path, findings: Sequence[Finding]) -> str:
    """One line per finding; a host shows ten of each kind in a step."""
    return "".join(f"{_line(file, finding)}\n" for finding in findings)


def _line(file: Path, finding: Finding) -> str:
    place = f"{finding.node}: " if finding.node else ""
    message = _message(f"{place}{finding.reason} {finding.remedy}")
    return f"::{COMMANDS[finding.severity]} file={_property(file.as_posix())},title={_property(finding.rule)}::{message}"


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
