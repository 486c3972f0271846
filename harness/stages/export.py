"""Artefacts of every flavour, each held against the twin before anything is built on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from devices.host.profile import DeviceProfile
from devices.host.saturation import may_saturate
from export.artefact import Artefact
from export.errors import ExportError
from export.flavours import export_flavour
from export.lint import TARGETS, Severity, lint
from export.parity import check_parity
from export.session import runs_exact
from harness.data.load import stratified
from harness.records import LintFinding, Parity
from harness.settings import Settings
from harness.stages.subject import Subject

PARITY_IMAGES = 256


@dataclass(frozen=True)
class Exported:
    """An artefact and its parity."""

    artefact: Artefact
    parity: Parity


def export_and_check(subject: Subject, settings: Settings, folder: Path, say: Callable[[str], None]) -> list[Exported]:
    """Write the artefacts of `settings.exported` into `folder`.

    Raises:
        ExportError: the twin cannot be exported, or the lint finds an error in what was written.
    """
    twin, test = subject.twin, subject.test
    probe = test.images[stratified(test.labels, min(PARITY_IMAGES, len(test)), settings.seed)]
    exported: list[Exported] = []
    for flavour in dict.fromkeys(settings.exported):
        say(f"export {flavour} ...")
        artefact = export_flavour(
            twin.module,
            flavour,
            input_shape=twin.input_shape,
            source_sha256=twin.sha256,
            calibration_images=subject.calibration.images,
            calibration_method=settings.calibration,
            folder=folder,
            cache_fp32=next((e.artefact for e in exported if e.artefact.flavour == "onnx-fp32"), None),
        )
        findings = _lint(artefact, subject.profile, say)
        seen = check_parity(twin.module, artefact, probe)
        parity = Parity(
            n=seen.n,
            max_logit_error=seen.max_logit_error,
            top1_agreement=seen.top1_agreement,
            passed=seen.passed,
            limit=seen.limit,
            lint=findings,
        )
        size, error, same = artefact.bytes / 1024, parity.max_logit_error, parity.top1_agreement
        say(f"  {size:.0f} KiB; against the twin: max |logit difference| {error:.3g}, top-1 agreement {same:.1%}")
        if not parity.passed:
            say(f"  NO PARITY: expected {parity.limit}. {seen.remedy}")
        exported.append(Exported(artefact, parity))
    return exported


def _lint(artefact: Artefact, profile: DeviceProfile, say: Callable[[str], None]) -> list[LintFinding]:
    """What the lint says of an artefact for its runtime on that device; tells the first warning of each rule, or why there are none.

    Raises:
        ExportError: the first error it finds.
    """
    if artefact.runtime not in TARGETS:
        say(f"  not linted: the rules are about ONNX files, {artefact.runtime} takes a {artefact.path.suffix}")
        return []
    exact = runs_exact(artefact.session_config) or not may_saturate(profile)
    found = lint(artefact.path, artefact.runtime, sparse=bool(artefact.options.get("sparse")), exact_integers=exact)
    if found and found[0].severity is Severity.ERROR:
        raise ExportError(f"{artefact.path.name} would not run as it says: {found[0]} All findings: harness lint {artefact.path}")
    first = {finding.rule: finding for finding in reversed(found) if finding.severity is Severity.WARNING}
    for finding in reversed(first.values()):
        say(f"  lint: {finding}")
    return [LintFinding.model_validate(finding.as_dict()) for finding in found]
