"""Where every figure comes from, and how to get it again."""

from __future__ import annotations

import shlex

from harness.answers import TWIN
from harness.records import AttackRecord, RunRecord
from reports.command import command
from reports.elements import Cell, Section, Table, table
from reports.format import EMPTY, NONE, count, flat, percent, significant
from reports.run import Run


def section(run: Run) -> Section:
    """Hashes, versions, seeds and the settings of every attack."""
    record = run.record
    tables = [_subject(record)]
    if record.attacks:
        tables += [_attacks(record), _course(record), _sets(record)]
    tables.append(_artefacts(record))
    tables += [
        table(title, ("Name", "Value"), rows, fold=True)
        for title, values in (("Settings", record.settings), ("Workstation", record.environment))
        if (rows := list(flat(values)))
    ]
    return Section("provenance", "Provenance", [], [t for t in tables if t.rows])


def repeat(run: Run) -> Section:
    """The command, without the folder that holds this run."""
    return Section(
        "repeat",
        "How to repeat it",
        ["The same command, seed and data give the same record, timing apart, in a new run folder; --out DIR names one."],
        code=shlex.join(command(run.record)),
    )


def _artefacts(record: RunRecord) -> Table:
    rows = [(e.name, Cell(e.artefact_sha256 or NONE, "code"), Cell(e.plan_sha256 or NONE, "code")) for e in record.engines]
    note = "The plan is what really ran: an engine's own file, or of a runtime that keeps none the artefact, the version and the options."
    return table("Artefacts", ("Engine", "Artefact, SHA-256", "Plan, SHA-256"), rows, note=note, fold=True)


def _subject(record: RunRecord) -> Table:
    model, data = record.model, record.data
    shape = "×".join(map(str, model.input_shape))
    return table(
        "Subject",
        ("Property", "Value"),
        [
            ("Model", f"{model.name} ({model.source})"),
            ("Architecture", model.arch or "as exported"),
            ("Weights, SHA-256", Cell(model.sha256, "code")),
            ("Parameters", f"{count(model.parameters)}, of which {count(model.nonzero_parameters)} are not zero"),
            ("MACs per image", count(model.macs)),
            *([("Model, remarks", "; ".join(model.remarks))] if model.remarks else []),
            ("Input, classes", f"{shape}, {count(model.classes)}"),
            ("Data", f"{data.name}: {count(data.n)} images attacked, {count(data.n_clean)} classified clean"),
            *([("Data, remarks", "; ".join(data.remarks))] if data.remarks else []),
            ("Data, SHA-256", Cell(data.sha256, "code")),
            ("Calibration", f"{data.calibration_name}: {count(data.calibration_n)} images, none of them tested"),
            ("Calibration, SHA-256", Cell(data.calibration_sha256, "code")),
            ("Class names", ", ".join(data.class_names) or NONE),
            ("Tier, seed", f"{record.tier}, {record.seed}"),
            ("Run", f"{record.created}, edge-harness {record.harness_version}, record schema {record.schema_}, step {record.status}"),
        ],
    )


def _attacks(record: RunRecord) -> Table:
    return table(
        "Attack settings",
        ("Attack", "Made on", "Radius", "Library", "Steps", "Step size", "Seed"),
        [(*_which(attack), attack.library, count(attack.steps), attack.step_size, str(attack.seed)) for attack in record.attacks],
        numbers=(4, 6),
        fold=True,
    )


def _course(record: RunRecord) -> Table:
    return table(
        "What the attacks did",
        ("Attack", "Made on", "Radius", "n", "Attacked", "Keeps", "L∞ used", "Mean L2", "Median L2", "Zero gradient", "Undone", "Queries"),
        [(*_which(attack), *_found(attack)) for attack in record.attacks],
        numbers=range(3, 12),
        note="n: the images that were left, on which the attacked model or an engine of the claim held out; none left: so nothing was "
        "attacked. Attacked: all of them, since an engine may have right what this model has wrong; by a minimum-norm attack, "
        "and at the gate's radius, those it has right. Keeps: share of n that the attacked model still has right. "
        "L∞ used is in units of 1/255. Mean L2 is over the attacked images, median over those that were fooled. "
        "Zero gradient: share of attacked images whose gradient at the start vanishes, a sign of masking. "
        "Undone by rounding: attacked images that the attack's own floats fool while no bytes near them do. "
        "Queries: how often the attacked model was asked about an attacked image or a version of it, judging what was found included; "
        "in all, and in brackets the median and the largest of an image.",
        fold=True,
    )


def _which(attack: AttackRecord) -> tuple[str, str, str]:
    return (
        attack.name,
        attack.source if attack.target == TWIN else f"{attack.source}, {attack.target}",
        f"L∞ {attack.eps_exact}" if attack.norm == "Linf" else "smallest L2",
    )


def _found(attack: AttackRecord) -> tuple[str, ...]:
    def of_images(shown: str) -> str:
        return shown if attack.n else NONE

    queries = attack.queries
    return (
        count(attack.n) if attack.n else EMPTY,
        of_images(count(attack.n_attacked)),
        of_images(percent(attack.target_accuracy)),
        of_images(significant(255 * attack.linf_max)),
        of_images(significant(attack.l2_mean)),
        of_images(significant(attack.l2_median)),
        of_images(percent(attack.zero_gradient_share)),
        of_images(count(attack.undone_by_rounding)),
        of_images(f"{count(queries.total)} ({count(round(queries.median))}, {count(queries.largest)})"),
    )


def _sets(record: RunRecord) -> Table:
    rows = [(f"{a.source} · {a.target} · {a.name} · {a.eps_exact}", a.file, Cell(a.set_sha256, "code")) for a in record.attacks]
    return table("Adversarial sets", ("Set", "File", "SHA-256"), rows, fold=True)
