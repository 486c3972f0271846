"""`harness lint`: what a runtime will refuse in an ONNX file, or run otherwise than it says."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options import AsJson

if TYPE_CHECKING:
    from export.lint import Finding

EPILOG = """
Exit codes: 0 no error (warnings and notes do not count) · 2 the file cannot be read · 3 at least one error

Example: harness lint model.onnx --target tensorrt --json
"""
SHOWN = 5  # findings of one rule in the text; --json has all


def _list_rules(asked: bool) -> None:
    if asked:
        from export.lint import RULES

        for target, rules in RULES.items():
            for rule in sorted(rules, key=lambda rule: rule.id):
                print(f"{rule.id}  {target:11}  {rule.severity:7}  {rule.title}{'; refused otherwise' if rule.refused else ''}")
        raise typer.Exit


def lint(
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", help="weights may lie beside it, in its own folder only")],
    target: Annotated[str | None, typer.Option(help="tensorrt or onnxruntime [default: its manifest's, else tensorrt]")] = None,
    sparse: Annotated[bool, typer.Option("--sparse", help="the file claims 2:4 sparse weights: check them after rounding")] = False,
    as_json: AsJson = False,
    _rules: Annotated[bool, typer.Option("--rules", is_eager=True, callback=_list_rules, help="list every rule and stop")] = False,
) -> None:
    """Check an ONNX file against the rules of a runtime, without that runtime."""
    from export.lint import Severity
    from export.lint import lint as check

    target = target or _meant_for(file)
    findings = check(file, target, sparse=sparse)
    counts = Counter(finding.severity for finding in findings)
    if as_json:
        summary = {"file": str(file), "target": target, **{severity.value: counts[severity] for severity in Severity}}
        print(json.dumps({**summary, "findings": [finding.as_dict() for finding in findings]}, indent=1))
    else:
        _print(findings)
        print(f"{file}, for {target}: " + ", ".join(f"{severity.value} {counts[severity]}" for severity in Severity))
    if counts[Severity.ERROR]:
        raise typer.Exit(3)


def _meant_for(file: Path) -> str:
    """The runtime in the manifest beside an exported file."""
    from export.artefact import load_artefact
    from export.errors import ExportError
    from export.lint import TARGETS

    try:
        runtime = load_artefact(file.with_suffix(".json")).runtime
    except ExportError:
        return "tensorrt"
    return runtime if runtime in TARGETS else "tensorrt"


def _print(findings: list[Finding]) -> None:
    """One line per finding, a few of each rule."""
    total, shown = Counter(finding.rule for finding in findings), Counter[str]()
    for finding in findings:
        shown[finding.rule] += 1
        if shown[finding.rule] <= SHOWN:
            print(finding)
            if shown[finding.rule] == SHOWN < total[finding.rule]:
                print(f"{'':8}{finding.rule} ... and {total[finding.rule] - SHOWN} more (--json lists all)")
