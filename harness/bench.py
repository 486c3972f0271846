"""`harness bench` in eight hops."""

from __future__ import annotations

from pathlib import Path

from harness import __version__
from harness.errors import UntrustedError
from harness.hops.attack import AdversarialSet, MakeSet, make_one, make_sets
from harness.hops.export import Exported, export_and_prove
from harness.hops.judge import judge
from harness.hops.measure import measure, remove_jobs
from harness.hops.subject import Subject, describe_data, describe_device, describe_model, load_subject
from harness.records import RunRecord, Step
from harness.run import Run, check_links, check_space, environment, now
from harness.settings import CURVE, Settings, stored_settings
from reports.render import render


def bench(settings: Settings, out: Path, command: list[str], make: MakeSet = make_one) -> RunRecord:
    """Run the whole path once and leave a run folder in `out`.

    Args:
        settings: the validated options.
        out: a folder that is new or empty.
        command: the words of the command line, for the record.
        make: makes an adversarial set.

    Raises:
        UsageError, ExportError: something the user can mend; nothing was begun or everything finished is kept.
        DeviceError: the device cannot be reached.
    """
    subject = load_subject(settings)
    check_space(out, needed_bytes(subject, settings))
    with Run(out) as run:
        return _hops(run, run.save(open_record(subject, settings, command)), subject, settings, make)


def resume(folder: Path, make: MakeSet = make_one) -> RunRecord:
    """Go on with an interrupted run; what was finished is not repeated. `make`: as in `bench`.

    Raises:
        UsageError: `folder` holds no run, or a link that leads out of it.
        UntrustedError: the model or the data are no longer those of the record.
    """
    check_links(folder)
    record = RunRecord.load(folder)
    if record.status == Step.FINISHED:
        remove_jobs(folder)
        render(folder, ("html", "md"))
        return record
    settings = stored_settings(record.settings, folder)
    subject = load_subject(settings)
    now_is = {"model": subject.twin.sha256, "data": subject.test.sha256, "calibration": subject.calibration.sha256}
    was = {"model": record.model.sha256, "data": record.data.sha256, "calibration": record.data.calibration_sha256}
    for what, then in was.items():
        if (today := now_is[what]) != then:
            raise UntrustedError(
                f"the {what} changed since {folder} was begun: sha256 {then[:12]}… then, {today[:12]}… now. Start a new run."
            )
    with Run(folder) as run:
        return _hops(run, record, subject, settings, make)


def prepare(settings: Settings, out: Path, command: list[str]) -> None:
    """Hops 1 to 4 alone: leaves a run folder in `out` that `resume` goes on with, on the device. Raises as `bench`."""
    subject = load_subject(settings)
    check_space(out, needed_bytes(subject, settings))
    with Run(out) as run:
        _make(run, run.save(open_record(subject, settings, command)), subject, settings, make_one)


def open_only(settings: Settings, out: Path, command: list[str]) -> None:
    """Hops 1 and 2 alone: a run folder in `out` that has just begun, for `resume`. Raises as `bench`."""
    subject = load_subject(settings)
    with Run(out) as run:
        run.save(open_record(subject, settings, command))


def _hops(run: Run, record: RunRecord, subject: Subject, settings: Settings, make: MakeSet) -> RunRecord:
    """Hops 3 to 8. Each finds what an earlier process finished in the run folder, and does the rest."""
    record, exported, sets = _make(run, record, subject, settings, make)

    results = measure(subject, settings, exported, sets, run.folder, run.log)
    record = run.save(record.model_copy(update={"status": Step.MEASURED}))

    record = run.save(judge(record, subject, settings, sets, results, run.folder))
    remove_jobs(run.folder)

    render(run.folder, ("html", "md"))
    return record


def _make(
    run: Run, record: RunRecord, subject: Subject, settings: Settings, make: MakeSet
) -> tuple[RunRecord, list[Exported], list[AdversarialSet]]:
    """Hops 3 and 4: what a run needs before a device."""
    exported = export_and_prove(subject, settings, run.folder / "artefacts", run.log)
    record = run.save(record.model_copy(update={"status": Step.EXPORTED}))

    sets = make_sets(subject, settings, exported, run.folder, run.log, make)
    return run.save(record.model_copy(update={"status": Step.ATTACKED, "attacks": [s.record for s in sets]})), exported, sets


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
    """Upper estimate of a run folder's size: artefacts (twice: each travels in a job), images (in every job, and once as sets), report."""
    flavours, attacks = len(settings.flavours), len(subject.attacks)
    sets = 2 + len(CURVE) + attacks * (1 + flavours)  # noise, gate, curve, S1 and at most one S3 per flavour
    images = (sets + 1) * subject.attacked.images.nbytes + flavours * subject.test.images.nbytes
    return (1 + flavours) * images + 2 * 4 * subject.twin.parameters * flavours + (64 << 20)
