"""Artefacts of every flavour, each held against the twin before anything is built on it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from devices.host.profile import DeviceProfile
from devices.host.saturation import may_saturate
from export.artefact import UNKNOWN, Artefact
from export.errors import ExportError
from export.flavours import FLAVOURS, export_flavour
from export.lint import TARGETS, Severity, lint
from export.parity import ParityResult, check_parity
from export.session import runs_exact
from harness.audit.gates import GIVEN_OTHERWISE
from harness.data.load import stratified
from harness.errors import UsageError
from harness.models.engine_file import CLOSED, file_of, take_in
from harness.models.onnx_graph import read_onnx
from harness.records import LintFinding, Parity
from harness.settings import Settings, engine_name
from harness.stages.subject import Subject

PARITY_IMAGES = 256
FLOAT = "onnx-fp32"  # the graph that every other ONNX file is made of


@dataclass(frozen=True)
class Exported:
    """An artefact and its parity.

    Attributes:
        artefact: the file.
        parity: with the twin, on this computer; None where it runs on the device alone (its answers there are held against the twin's).
        unreadable: why its graph cannot be read back into PyTorch; empty where it can.
        given: the file is the user's own, and was not made of the twin here.
    """

    artefact: Artefact
    parity: Parity | None
    unreadable: str = ""
    given: bool = False


def export_and_check(subject: Subject, settings: Settings, folder: Path, say: Callable[[str], None]) -> list[Exported]:
    """Write the artefacts of `settings.exported` into `folder`, and take in the files that run as they are.

    Raises:
        ExportError: the twin cannot be exported, or the lint finds an error in what was written or taken in.
        UsageError: a file is no engine of the twin.
        UntrustedError: a file has changed since it was first taken in.
    """
    twin, test = subject.twin, subject.test
    probe = test.images[stratified(test.labels, min(PARITY_IMAGES, len(test)), settings.seed)]
    write = partial(
        export_flavour,
        twin.module,
        input_shape=twin.input_shape,
        source_sha256=twin.sha256,
        calibration_images=subject.calibration.images,
        calibration_method=settings.calibration,
    )
    exported: list[Exported] = []
    base: tuple[Artefact, ParityResult] | None = None
    with tempfile.TemporaryDirectory(prefix="edge-harness-export-") as scratch:
        for flavour in dict.fromkeys(settings.exported):
            say(f"export {flavour} ...")
            if base is None and FLAVOURS[flavour].build is not None:
                graph = write(FLOAT, folder=folder if FLOAT in settings.exported else Path(scratch))
                base = graph, check_parity(twin.module, graph, probe)
            artefact = write(flavour, folder=folder, cache_fp32=base[0] if base else None)
            seen = base[1] if base and flavour == FLOAT else check_parity(twin.module, artefact, probe)
            parity = _proved(artefact, subject, _of_its_graph(seen, base[1]) if base else seen, say)
            exported.append(Exported(artefact, parity, _unreadable(artefact, say) if artefact.precision == "int8" else ""))
    for flavour in dict.fromkeys(settings.files):
        say(f"{engine_name(flavour)} as it is ...")
        artefact = take_in(file_of(flavour), twin, folder)
        if artefact.precision == UNKNOWN:
            say(f"  {artefact.bytes / 1024:.0f} KiB for {artefact.runtime}; {CLOSED}")
            exported.append(Exported(artefact, None, CLOSED, given=True))
            continue
        if "freed_batch" in artefact.options:
            say(f"  it takes batches of {artefact.options['freed_batch']} alone; run with that size left open, which changes no answer")
        if "cast_ends" in artefact.options:
            say("  its images or logits are float16: cast before and behind it, which changes no answer")
        if artefact.one_by_one:
            say(
                "  the scales of its activations are those of all images of a request (dynamic quantization): it is asked for one at a time"
            )
        seen = replace(check_parity(twin.module, artefact, probe, given=True), remedy=GIVEN_OTHERWISE)
        exported.append(Exported(artefact, _proved(artefact, subject, seen, say), _unreadable(artefact, say), given=True))
    return exported


def _of_its_graph(seen: ParityResult, graph: ParityResult) -> ParityResult:
    """The parity of an artefact, failed where the float graph that it is made of is another network: eight bits would hide that."""
    if graph.passed or not seen.passed:
        return seen
    limit = f"{seen.limit}; of the float graph that it is made of, {graph.max_logit_error:.3g} apart: {graph.limit}"
    return replace(seen, passed=False, limit=limit, remedy=graph.remedy)


def _proved(artefact: Artefact, subject: Subject, seen: ParityResult, say: Callable[[str], None]) -> Parity:
    """What the lint says of an artefact, with its parity. Raises ExportError: the lint finds an error."""
    findings = _lint(artefact, subject.profile, say)
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
    """Why an artefact's graph cannot be attacked; empty where it can."""
    try:
        read_onnx(artefact.path, deployed=True)
    except UsageError as error:
        why = str(error).partition(" Supported: ")[0]  # the list of all operators is for whoever writes the file
        say(f"  its graph cannot be attacked (S3), so that its claim can fail but not hold: {why}")
        return why
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
