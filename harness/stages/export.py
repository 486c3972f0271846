"""Artefacts of every flavour, each held against the twin before anything is built on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from devices.host.profile import DeviceProfile
from devices.host.saturation import may_saturate
from export.artefact import UNKNOWN, Artefact
from export.errors import ExportError
from export.flavours import export_flavour
from export.lint import TARGETS, Severity, lint
from export.parity import check_parity
from export.session import runs_exact
from harness.data.load import stratified
from harness.errors import UsageError
from harness.models.engine_file import CLOSED, file_of, take_in
from harness.models.onnx_graph import read_onnx
from harness.records import LintFinding, Parity
from harness.settings import Settings, engine_name
from harness.stages.subject import Subject

PARITY_IMAGES = 256


@dataclass(frozen=True)
class Exported:
    """An artefact and its parity.

    Attributes:
        artefact: the file.
        parity: with the twin, on this computer; None where it runs on the device alone (its answers there are held against the twin's).
        unreadable: why its graph cannot be read back into PyTorch; empty where it can.
    """

    artefact: Artefact
    parity: Parity | None
    unreadable: str = ""


def export_and_check(subject: Subject, settings: Settings, folder: Path, say: Callable[[str], None]) -> list[Exported]:
    """Write the artefacts of `settings.exported` into `folder`, and take in the files that run as they are.

    Raises:
        ExportError: the twin cannot be exported, or the lint finds an error in what was written or taken in.
        UsageError: a file is no engine of the twin.
        UntrustedError: a file has changed since it was first taken in.
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
        exported.append(Exported(artefact, _proved(artefact, subject, probe, say)))
    for flavour in dict.fromkeys(settings.files):
        say(f"{engine_name(flavour)} as it is ...")
        artefact = take_in(file_of(flavour), twin, folder)
        if artefact.precision == UNKNOWN:
            say(f"  {artefact.bytes / 1024:.0f} KiB for {artefact.runtime}; {CLOSED}")
            exported.append(Exported(artefact, None, CLOSED))
            continue
        if "freed_batch" in artefact.options:
            say(f"  it takes batches of {artefact.options['freed_batch']} alone; run with that size left open, which changes no answer")
        exported.append(Exported(artefact, _proved(artefact, subject, probe, say), _unreadable(artefact, say)))
    return exported


def _proved(artefact: Artefact, subject: Subject, probe: NDArray[np.uint8], say: Callable[[str], None]) -> Parity:
    """What the lint and the twin's own answers say of an artefact. Raises ExportError: the lint finds an error."""
    findings = _lint(artefact, subject.profile, say)
    seen = check_parity(subject.twin.module, artefact, probe)
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
    return parity


def _unreadable(artefact: Artefact, say: Callable[[str], None]) -> str:
    """Why a quantized file's graph cannot be attacked; empty where it can, or need not be."""
    if artefact.precision != "int8":
        return ""
    try:
        read_onnx(artefact.path, wide=True)
    except UsageError as error:
        say(f"  its graph cannot be attacked (S3), so that its claim can fail but not hold: {error}")
        return str(error)
    return ""


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
