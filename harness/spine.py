"""`harness bench`, stage by stage."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from devices.host.session import EngineId
from harness import __version__, plugins
from harness.answers import Answers
from harness.attacks.executors import open_executor
from harness.compute.allocator import give_back
from harness.errors import UntrustedError, UsageError
from harness.records import AttackRecord, RunRecord, Step
from harness.requirements.file import read_requirements
from harness.requirements.judge import qualify
from harness.run import RunFolder, check_space, check_versions, environment, now
from harness.settings import CURVE, Settings, engine_name, stored_settings
from harness.sources.planned import Context
from harness.stages.again import ask_again
from harness.stages.attack import Cascade
from harness.stages.context import make_context
from harness.stages.device import outcome
from harness.stages.engines import Engines, Opener, Where, on_device, open_engines, plan_engines
from harness.stages.evidence import Evidence
from harness.stages.export import Exported, export_and_check
from harness.stages.judge import judge
from harness.stages.measure import measure
from harness.stages.names import check_names
from harness.stages.subject import Subject, describe_data, describe_device, describe_model, load_subject
from reports.render import render

REQUIREMENTS = "qualification.toml"  # in a run folder: what it is held against


def bench(
    settings: Settings, out: Path, command: list[str], requirements: Path | None = None, given: Mapping[str, Opener] | None = None
) -> RunRecord:
    """Run the whole path once and leave a run folder in `out`.

    Args:
        settings: the validated options.
        out: a folder that is new or empty.
        command: the words of the command line, for the record.
        requirements: a file that the finished run is held against.
        given: how each engine `python:NAME` is opened, see `harness.api`.

    Raises:
        UsageError, ExportError: something the user can mend; nothing was begun or everything finished is kept.
        DeviceError: the device cannot be reached.
    """
    if requirements is not None:
        check_requirements(requirements, settings)
    subject = load_subject(settings)
    check_space(out, needed_bytes(subject, settings))
    with RunFolder(out, new=True) as run:
        record = open_record(subject, settings, command)
        keep_requirements(requirements, run.folder)
        ways = Ways(where=partial(on_device, given=given))
        return _reported(run, carry_out(run, run.save(record), subject, settings, ways))


def check_requirements(path: Path, settings: Settings) -> None:
    """Refuse a requirements file that cannot be meant, before any work, and one that this run could not answer.

    Raises:
        UsageError: names the line.
    """
    check_names(settings)  # plugins first: a file may name their gates
    wanted = read_requirements(path)
    names = [(flavour, engine_name(flavour)) for flavour in settings.flavour_names]
    wanted.check_engines({str(EngineId(name, build)): flavour for flavour, name in names for build in range(settings.each_built)})
    for line in wanted.lines:
        batch = line.options.get("batch")
        if batch is not None and batch not in settings.batches:
            timed = ", ".join(map(str, settings.batches)) or "none"
            raise wanted.fault(line.number, f"batch {batch} is not timed in this run ({timed}). Add --batch {batch}.")


def keep_requirements(path: Path | None, folder: Path) -> None:
    """A copy of the requirements in a run folder, where a resumed run finds them."""
    if path is not None:
        shutil.copyfile(path, folder / REQUIREMENTS)


def resume(folder: Path) -> RunRecord:
    """Go on with an interrupted run; what was finished is not repeated.

    Raises:
        UsageError: `folder` holds no run, or a link that leads out of it.
        UntrustedError: the model, the data or the libraries are no longer those of the record.
    """
    record = RunRecord.load(folder)
    if record.status == Step.FINISHED:
        with RunFolder(folder) as run:
            return _reported(run, RunRecord.load(folder))
    settings = stored_settings(record.settings, folder)
    check_versions({"harness": record.harness_version, **record.environment}, folder)
    try:
        subject = load_subject(settings)
    except UsageError as error:
        raise UsageError(f"{error}{_from_there(settings, folder)}") from error
    now_is = {"model": subject.twin.sha256, "data": subject.test.sha256, "calibration": subject.calibration.sha256}
    was = {"model": record.model.sha256, "data": record.data.sha256, "calibration": record.data.calibration_sha256}
    for what, then in was.items():
        if (today := now_is[what]) != then:
            raise UntrustedError(
                f"the {what} changed since {folder} was begun: sha256 {then[:12]}… then, {today[:12]}… now. Start a new run."
            )
    with RunFolder(folder) as run:
        record = RunRecord.load(folder)  # as whoever held it left it
        return _reported(run, record if record.status == Step.FINISHED else carry_out(run, record, subject, settings))


def _from_there(settings: Settings, folder: Path) -> str:
    """What to do where the names of a run's files lead nowhere from here; nothing where they do, or are no names of files."""
    names = {"--model": settings.model, "--data": settings.data}
    lost = [f"{option} {name}" for option, name in names.items() if ("/" in name or Path(name).suffix) and not Path(name).exists()]
    if not lost:
        return ""
    return f" {folder} was begun with {' and '.join(lost)}: go on from the folder in which that leads to the file, or put it there again."


def prepare(settings: Settings, out: Path, command: list[str]) -> None:
    """All that needs no device: a run folder in `out` with artefacts and the sets that are aimed at no engine. Raises as `bench`."""
    subject = load_subject(settings)
    check_space(out, needed_bytes(subject, settings))
    with RunFolder(out) as run:
        run.save(open_record(subject, settings, command))
        exported = export_and_check(subject, settings, run.folder / "artefacts", run.log)
        context = make_context(subject, settings, Engines(engines := plan_engines(subject, settings, exported)), engines)
        attack(context, run, settings)


def open_only(settings: Settings, out: Path, command: list[str]) -> None:
    """A run folder in `out` that has just begun, for `resume`. Raises as `bench`."""
    subject = load_subject(settings)
    with RunFolder(out) as run:
        run.save(open_record(subject, settings, command))


@dataclass(frozen=True)
class Ways:
    """How two stages of a run are done; the self-test plants its faults there.

    Attributes:
        export: makes the artefacts.
        where: makes the sessions with engines.
    """

    export: Callable[[Subject, Settings, Path, Callable[[str], None]], list[Exported]] = export_and_check
    where: Where = on_device


def carry_out(run: RunFolder, record: RunRecord, subject: Subject, settings: Settings, ways: Ways = Ways()) -> RunRecord:
    """Everything after the checks. Each stage finds what an earlier process finished in the run folder, and does the rest."""
    exported = ways.export(subject, settings, run.folder / "artefacts", run.log)
    give_back()
    record = run.save(record.model_copy(update={"status": Step.EXPORTED}))

    engines = plan_engines(subject, settings, exported)
    with open_engines(engines, subject, settings, run.folder, run.log, ways.where) as opened:
        unopened = set(opened.failed)  # why was said where it happened
        measured = measure(opened, subject, settings, run.folder)
        for m in measured:
            if m.engine.name not in unopened:
                run.log(outcome(m, subject.profile, measured))
        record = run.save(record.model_copy(update={"status": Step.MEASURED}))

        context = make_context(subject, settings, opened, [engine for engine in engines if engine.name in opened.sessions])
        cascade, attacks = attack(context, run, settings)
        record = run.save(record.model_copy(update={"attacks": attacks, "status": Step.ATTACKED}))
        again = ask_again(opened, context, cascade.matrix, cascade.lost, run.folder)

    give_back()
    return run.save(judge(record, Evidence(subject, settings, measured, cascade.matrix, cascade.lost, again), run.folder))


def _reported(run: RunFolder, record: RunRecord) -> RunRecord:
    """The record held against the requirements, unless it was already, and its report. A run may have been stopped before either."""
    if record.qualification is None and (wanted := run.folder / REQUIREMENTS).exists():
        plugins.load(stored_settings(record.settings, run.folder).plugins)  # the file may name their gates
        record = run.save(qualify(run.folder, read_requirements(wanted)))
    render(run.folder, ("html", "md"))
    return record


def attack(context: Context, run: RunFolder, settings: Settings) -> tuple[Cascade, list[AttackRecord]]:
    """Make the run's sets, by the executor that the settings name. Raises as `Cascade.run`."""
    with closing(open_executor(settings.executor, settings.address)) as executor:
        cascade = Cascade(context, Answers(run.folder), run.folder, settings.every_image, run.log, executor)
        return cascade, cascade.run()


def open_record(subject: Subject, settings: Settings, command: list[str]) -> RunRecord:
    """The record of a run that has just begun."""
    return RunRecord(
        status=Step.STARTED,
        created=now(),
        harness_version=__version__,
        command=command,
        settings=settings.model_dump(mode="json"),
        tier=settings.tier,
        seed=settings.seed,
        environment=environment(),
        device=describe_device(subject.profile, {}),
        model=describe_model(subject.twin),
        data=describe_data(subject),
    )


def needed_bytes(subject: Subject, settings: Settings) -> int:
    """Upper estimate of a run folder's size: artefacts (twice: a copy travels), adversarial sets, answers, report."""
    flavours, attacks = len(settings.flavour_names), len(subject.attacks)
    engines = flavours * settings.each_built
    sets = 2 + len(CURVE) + 2 * attacks + (attacks + 6) * (1 + engines)
    images, answers = (
        sets * len(subject.index) * subject.test.images[:1].nbytes,
        sets * (4 + 3 * engines) * 4 * subject.twin.classes * len(subject.test),
    )
    return images + answers + 2 * 4 * subject.twin.parameters * flavours + (64 << 20)
