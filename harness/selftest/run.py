"""Runs deployments through the stages of a bench and compares what caught them with what their files say."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import torch
from pydantic import Field

from devices.host.errors import DeviceError
from devices.host.profile import load_profile
from devices.host.saturation import saturates
from devices.host.session import EngineSession, Progress
from devices.worker.environment import describe_machine
from devices.worker.spec import BATCH, EngineSpec, lay_out
from export.artefact import sha256_file
from export.errors import ExportError
from export.parity import check_parity
from harness.answers import ANSWERS
from harness.attacks.table import ATTACKS, Attack
from harness.data.load import stratified
from harness.errors import UntrustedError, UsageError
from harness.records import Parity, RunRecord
from harness.run import RunFolder
from harness.selftest.deployment import REFUSED, Deployment
from harness.selftest.network import as_twin, network
from harness.selftest.pictures import CALIBRATION, TEST, pictures
from harness.selftest.serving import Answer, Floats, Thread, of_artefact, of_function
from harness.settings import TIERS, Settings, TierPlan
from harness.spine import Ways, carry_out, open_record
from harness.stages.attack import SETS
from harness.stages.engines import Engine, Make, runtime_options
from harness.stages.export import FLOAT, PARITY_IMAGES, Exported, export_and_check
from harness.stages.names import for_tier
from harness.stages.subject import Subject

SATURATION = "saturation"
EPS = Fraction(8, 255)
CLEAN, CALIBRATED = 400, 128  # pictures
_TIER = TIERS["quick"]
QUICK = replace(
    _TIER,
    samples=256,
    attacks=("pgd", "apgd-dlr"),
    exhaustive=True,
    apgd_steps=25,
    bpda_steps=10,
    queries=30,
    measure_s=0.2,
    warmup_s=0.05,
    rounds=4,
)
# Gates that judge an engine's clean answers, its file or its clock: no attack on the engine can add to them.
WITHOUT_ENGINE_ATTACKS = {
    "artefact parity", "calibration disjoint", "calibration images", "clean parity", "determinism", "distinct images", "engine parity",
    "file fidelity", "fresh answers", "logits", "own clock", "precision evidence", "rebuild spread", "repeated inputs", "steady latency",
}  # fmt: skip
FEW = 96  # images
ALONE = 3  # deployments that are sooner done each by itself than with a run before them whose sets they share
FULL = replace(_TIER, exhaustive=False, measure_s=0.5, warmup_s=0.1)


class Small(Settings):
    """The options of a run in the self-test, with a plan of its own."""

    figures: dict[str, object] = Field(default_factory=dict)

    @property
    def plan(self) -> TierPlan:
        """The quick tier's, with other figures."""
        return replace(_TIER, **self.figures)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Row:
    """One deployment and what became of it.

    Attributes:
        observed: gates that failed, verdicts, or the error that refused it.
        ok: a fault was caught by what its file names, a sound deployment passed.
    """

    name: str
    title: str
    faulty: bool
    expected: str
    observed: tuple[str, ...]
    ok: bool


def selftest(wanted: Sequence[Deployment], *, quick: bool, on_row: Callable[[Row], None]) -> list[Row]:
    """Run deployments one after the other; `on_row` gets each row as soon as it is there."""
    rows = []
    with alone(), tempfile.TemporaryDirectory(prefix="harness-selftest-") as place:
        store = Path(place) / "sound" if quick and len(wanted) > ALONE else None
        if store is not None:
            run(Deployment("sound", "as it is", False, "", flavours=(FLOAT, "ort-int8")), store, quick=True)
        for deployment in wanted:
            folder = Path(place) / deployment.name
            rows.append(outcome(deployment, folder, quick=quick, store=store))
            shutil.rmtree(folder, ignore_errors=True)
            on_row(rows[-1])
    return rows


def outcome(deployment: Deployment, folder: Path, *, quick: bool, store: Path | None = None) -> Row:
    """Run one deployment in `folder` and see what caught it."""
    try:
        observed = caught(run(deployment, folder, quick=quick, store=store))
    except (UsageError, UntrustedError, ExportError, DeviceError) as error:
        observed = (f"{REFUSED}{error}".replace(f"{folder}{os.sep}", ""),)
    return Row(deployment.name, deployment.title, deployment.faulty, deployment.expected, observed, _as_expected(deployment, observed))


def caught(record: RunRecord) -> tuple[str, ...]:
    """The names of the gates that failed and of the verdicts, each once."""
    failed = [gate.name for gate in record.gates if gate.passed is False]
    return tuple(dict.fromkeys([*failed, *(claim.verdict.value for claim in record.claims)]))


def _as_expected(deployment: Deployment, observed: Sequence[str]) -> bool:
    """A fault: one of what was seen is what its file says. A sound deployment: its verdict, and no gate failed; but that this computer's
    kernels saturate is a finding about it, whatever is deployed.
    """
    if not deployment.faulty:
        ours = {SATURATION} if saturates(describe_machine()["isa_flags"]) else set()
        return [one for one in observed if one not in ours] == [deployment.expected]
    if deployment.expected.startswith(REFUSED):
        return any(one.startswith(REFUSED) and deployment.expected.removeprefix(REFUSED) in one for one in observed)
    return deployment.expected in observed


def run(deployment: Deployment, folder: Path, *, quick: bool, store: Path | None = None) -> RunRecord:
    """The finished record of a deployment. Raises as `harness.spine.bench`.

    Args:
        deployment: see its module.
        folder: for the run.
        quick: fewer images and steps, and a fault that needs no attack on the engine to be seen gets none.
        store: a finished run of the sound deployment, whose artefacts and sets are taken where they would be the same.
    """
    plan = {**vars(QUICK if quick else FULL), **deployment.plan}
    settings = Small(
        model="selftest", device="null", eps=str(EPS), batches=(), threads=1, flavours=deployment.flavours, figures=plan
    ).model_copy(update=dict(deployment.settings))
    if quick and deployment.expected in WITHOUT_ENGINE_ATTACKS:
        settings = settings.model_copy(update={"sources": ("S0", "S1")})
    sound, subject = _subjects(deployment, settings)
    parts = ("twin", "test", "attacks", "index", "eps")
    own = deployment.other_attacks or any(getattr(subject, part) is not getattr(sound, part) for part in parts)
    if quick and own and deployment.faulty:  # all its sets have to be made, and a fault is seen on fewer images than HOLDS takes
        settings = settings.model_copy(update={"samples": FEW})
        sound, subject = _subjects(deployment, settings)
    if store is not None:
        graph = not own and subject.calibration is sound.calibration and deployment.graph is None
        _take(store, folder, twin=not own, graph=graph)
    ways = Ways(export=_exporter(deployment), where=_here(deployment))
    with _known(deployment.attack), RunFolder(folder) as place:
        record = carry_out(place, place.save(open_record(subject, settings, ["harness", "selftest"])), subject, settings, ways)
        if deployment.tamper is not None:
            deployment.tamper(folder)
            record = carry_out(place, record, subject, settings, ways)
    return record


@contextlib.contextmanager
def _known(attack: Attack | None) -> Iterator[None]:
    """The table of attacks with one more."""
    if attack is None:
        yield
        return
    ATTACKS[attack.name] = attack
    try:
        yield
    finally:
        del ATTACKS[attack.name]


def _subjects(deployment: Deployment, settings: Settings) -> tuple[Subject, Subject]:
    """The sound deployment's and this one's."""
    sound = subject = sound_subject(settings)
    if deployment.subject is not None:
        subject = deployment.subject(sound)
    if deployment.attack is not None:
        subject = replace(subject, attacks=(deployment.attack,))
    return sound, subject


def sound_subject(settings: Settings) -> Subject:
    """The small network and its pictures."""
    test = pictures(TEST, CLEAN)
    index = stratified(test.labels, min(settings.samples or settings.plan.samples, len(test)), settings.seed)
    attacks = tuple(for_tier(name, settings) for name in settings.attack_names)
    return Subject(
        as_twin(network()), test, pictures(CALIBRATION, CALIBRATED), index, settings.radius(None), attacks, load_profile(settings.device)
    )


def _take(store: Path, folder: Path, *, twin: bool, graph: bool) -> None:
    """Begin a run with what another one made: its artefacts, and the sets that are aimed at the twin, at its graph, with their answers."""
    shutil.copytree(store / "artefacts", folder / "artefacts")
    (folder / SETS).mkdir()
    for path in (store / SETS).glob("*-*.npz"):
        source, target = path.name.split("-")[:2]
        if (twin and target == "twin") or (graph and source == "S3"):
            shutil.copy(path, folder / SETS)
    for row in (store / ANSWERS).glob("*/"):
        if (twin and row.name == "twin") or (graph and row.name.startswith("graph-")):
            shutil.copytree(row, folder / ANSWERS / row.name)


def _exporter(deployment: Deployment) -> Callable[[Subject, Settings, Path, Callable[[str], None]], list[Exported]]:
    """Exports as a bench does, by way of the float graph, which is made once; then what the deployment makes of a file."""

    def export(subject: Subject, settings: Settings, folder: Path, say: Callable[[str], None]) -> list[Exported]:
        if not settings.exported:
            return []
        through_float = settings.model_copy(update={"flavours": (FLOAT, *settings.exported)})
        made = export_and_check(subject, through_float, folder, say)
        return [_rewritten(one, deployment, subject) for one in made]

    return export


def _rewritten(made: Exported, deployment: Deployment, subject: Subject) -> Exported:
    """An artefact whose graph the deployment changes, held against the twin as any."""
    artefact = made.artefact
    if deployment.graph is None or (artefact.flavour == FLOAT and FLOAT not in deployment.flavours):
        return made
    path = artefact.path.with_name(f"{artefact.path.stem}-changed.onnx")
    onnx.save(deployment.graph(onnx.load(artefact.path), subject), path)
    artefact = replace(artefact, path=path, sha256=sha256_file(path))
    seen = check_parity(subject.twin.module, artefact, subject.test.images[:PARITY_IMAGES])
    parity = Parity(
        n=seen.n, max_logit_error=seen.max_logit_error, top1_agreement=seen.top1_agreement, passed=seen.passed, limit=seen.limit
    )
    return Exported(artefact, parity)


def _here(deployment: Deployment) -> Callable[..., contextlib.AbstractContextManager[Make]]:
    """What makes the sessions: engines in this process, deployed as the file says."""

    @contextlib.contextmanager
    def where(engines: Sequence[Engine], subject: Subject, settings: Settings, folder: Path, say: Callable[[str], None]) -> Iterator[Make]:
        def make(engine: Engine, steps: Progress) -> EngineSession:
            if engine.exported is None:
                channels, height, width = subject.twin.input_shape
                hello = {"shape": [height, width, channels], "classes": subject.twin.classes, **deployment.hello}
                program = of_function(hello, of_module(subject.twin.module), deployment.deploy)
            else:
                spec, place = _laid_out(engine, deployment, subject, settings, folder)
                program = of_artefact(spec, place, deployment.deploy)
            return EngineSession(engine.id, lambda: Thread(program), BATCH, progress=steps)

        yield make

    return where


def _laid_out(engine: Engine, deployment: Deployment, subject: Subject, settings: Settings, folder: Path) -> tuple[EngineSpec, Path]:
    """The folder of an artefact's engine, as it would travel."""
    assert engine.exported is not None  # noqa: S101 - asked by the caller
    artefact, place = engine.exported.artefact, folder / "engines" / engine.name
    path = artefact.path if deployment.shipped is None else deployment.shipped(artefact.path, subject)
    channels, height, width = subject.twin.input_shape
    spec = EngineSpec(
        flavour=engine.flavour,
        runtime=engine.runtime,
        artefact=lay_out(place, path),
        options=runtime_options(artefact, settings, settings.threads or 1, False, engine.variant),
        shape=(height, width, channels),
        build=engine.id.build,
        device=subject.profile.name,
        synthetic_clock=subject.profile.synthetic_clock,
        timed=bool(settings.batches),
        watch=subject.profile.watch,
    )
    spec.save(place)
    return spec, place


def of_module(module: torch.nn.Module) -> Answer:
    """A PyTorch module as what an engine computes."""

    def answer(images: Floats) -> Floats:
        with torch.inference_mode():
            logits: Floats = module(torch.from_numpy(np.ascontiguousarray(images))).numpy()
        return logits

    return answer


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One thread, since the network is so small, and nothing of the runs' own progress on standard error."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with Path(os.devnull).open("w", encoding="utf-8", errors="replace") as nowhere, contextlib.redirect_stderr(nowhere):
            yield
    finally:
        torch.set_num_threads(threads)
