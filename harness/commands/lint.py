"""`harness lint`: what a runtime will refuse in an ONNX file, or run otherwise than it says."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options import AsJson
from harness.errors import unknown

if TYPE_CHECKING:
    from export.artefact import Artefact
    from export.lint import Finding

EPILOG = """
Exit codes: 0 no error (warnings and notes do not count) · 2 the file cannot be read · 3 at least one error

Example: harness lint model.onnx --target tensorrt --json
"""
FORMATS = ("text", "sarif", "github")
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
    device: Annotated[
        str | None, typer.Option(help="the device that will run it: without it, every CPU is thought of", show_default=False)
    ] = None,
    sparse: Annotated[bool, typer.Option("--sparse", help="the file claims 2:4 sparse weights: check them after rounding")] = False,
    as_json: AsJson = False,
    format: Annotated[str, typer.Option(help="text; sarif or github, for what a code host shows beside a change")] = "text",
    _rules: Annotated[bool, typer.Option("--rules", is_eager=True, callback=_list_rules, help="list every rule and stop")] = False,
) -> None:
    """Check an ONNX file against the rules of a runtime. It needs no such runtime."""
    from export.lint import TARGETS, Severity
    from export.lint import lint as check

    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    made = _manifest(file)
    target = target or (made.runtime if made is not None and made.runtime in TARGETS else "tensorrt")
    findings = check(file, target, sparse=sparse, exact_integers=_exact(made, device))
    counts = Counter(finding.severity for finding in findings)
    if format == "sarif":
        print(_sarif(file, target, findings))
    elif format == "github":
        print(_annotations(file, findings), end="")
    elif as_json:
        summary = {"file": str(file), "target": target, **{severity.value: counts[severity] for severity in Severity}}
        print(json.dumps({**summary, "findings": [finding.as_dict() for finding in findings]}, indent=1))
    else:
        _print(findings)
        print(f"{file}, for {target}: " + ", ".join(f"{severity.value} {counts[severity]}" for severity in Severity))
    if counts[Severity.ERROR]:
        raise typer.Exit(3)


def _sarif(file: Path, target: str, findings: list[Finding]) -> str:
    from export.lint import RULES
    from export.lint.sarif import to_sarif
    from harness import __version__

    return to_sarif(file, findings, RULES[target], __version__)


def _annotations(file: Path, findings: list[Finding]) -> str:
    from export.lint.annotations import to_annotations

    return to_annotations(file, findings)


def _manifest(file: Path) -> Artefact | None:
    """What the manifest beside an exported file says."""
    from export.artefact import load_artefact
    from export.errors import ExportError

    try:
        return load_artefact(file.with_suffix(".json"))
    except ExportError:
        return None


def _exact(made: Artefact | None, device: str | None) -> bool:
    """Whether integers are multiplied exactly: by the session's options in the manifest, or by any kernel of the device's CPU."""
    from export.session import runs_exact

    if made is not None and runs_exact(made.session_config):
        return True
    if device is None:
        return False
    from devices.host.saturation import may_saturate
    from harness.stages.names import find_profile

    return not may_saturate(find_profile(device))


def _print(findings: list[Finding]) -> None:
    """One line per finding, a few of each rule."""
    total, shown = Counter(finding.rule for finding in findings), Counter[str]()
    for finding in findings:
        shown[finding.rule] += 1
        if shown[finding.rule] <= SHOWN:
            print(finding)
            if shown[finding.rule] == SHOWN < total[finding.rule]:
                print(f"{'':8}{finding.rule} ... and {total[finding.rule] - SHOWN} more (--json lists all)")
