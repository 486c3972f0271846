"""Lint: what a runtime will refuse in an ONNX file, or will run otherwise than the file says, found without that runtime.

Knows no device and no twin: it takes a file and the name of a runtime. numpy and onnx only.
"""

from export.lint.finding import Finding, Rule, Severity
from export.lint.rules import RULES, TARGETS, lint, rule_for

__all__ = ["RULES", "TARGETS", "Finding", "Rule", "Severity", "lint", "rule_for"]
