"""Robustness: the same adversarial bytes on the twin and on every engine."""

from __future__ import annotations

from harness.records import RunRecord, Transfer
from reports.format import NONE, count, estimate, percent, points
from reports.outcomes import WorstCase, wilson, worst_cases
from reports.run import GATE_SOURCE, Run
from reports.table import Cell, Section, Table, table

SOURCES = {
    "S0": "no model: random noise, the floor",
    "S1": "the PyTorch twin",
    "S2": "the compressed twin without its quantizers",
    "S3": "the STE twin, the exported Q/DQ graph read back into PyTorch with straight-through gradients",
    "S4": "the engine itself, by queries",
    "S5": "twin and STE twin together",
    "S6": "another engine",
}


def section(run: Run) -> Section:
    """Worst case per radius, then every set by itself."""
    record = run.record
    if not replays(record):
        return Section("robustness", "Robustness", ["No adversarial image has been replayed on an engine."])
    paragraphs = [
        "Adversarial images were made on a twin in PyTorch, rounded to whole pixel values, and replayed byte for byte on every engine. "
        "An image counts as right where the model has it right both clean and attacked.",
        f"Made on: {'; '.join(_sources(record))}.",
    ]
    worst = worst_cases(run)
    tables = [_worst(worst)] if worst else []
    return Section("robustness", "Robustness", paragraphs, [*tables, _replayed(run), _flips(run)])


def _worst(cases: list[WorstCase]) -> Table:
    return table(
        "Worst case over the attacks",
        ("Engine", "ε", "Twin", "Engine", "Gap (points)", "Both right", "Twin only", "Engine only", "Both wrong", "Sets", "n"),
        [
            (
                case.engine,
                "clean" if case.eps == 0 else str(case.eps),
                estimate(case.twin / case.n, wilson(case.twin, case.n)),
                estimate(case.right / case.n, wilson(case.right, case.n)),
                points((case.twin - case.right) / case.n),
                *_shaded(case.both_right, case.twin_only, case.engine_only, case.both_wrong),
                count(case.attacks) if case.attacks else NONE,
                count(case.n),
            )
            for case in cases
        ],
        numbers=range(1, 11),
        note="Each image against every L-inf set of that radius: it survives only if none fools the model (noise is left out). "
        "Twin only: right on the twin, wrong on the engine. Intervals are 95 % Wilson.",
    )


def replays(record: RunRecord) -> list[Transfer]:
    """The replayed sets, without those made only for a gate."""
    return [t for t in record.transfer if t.source != GATE_SOURCE]


def _sources(record: RunRecord) -> list[str]:
    """Each source that was used, explained."""
    used = dict.fromkeys(t.source for t in replays(record))
    return [f"{source}, {words}" if (words := SOURCES.get(source.partition("-")[0])) else source for source in used]


def _replayed(run: Run) -> Table:
    return table(
        "Each attack",
        ("Engine", "Made on", "Attack", "ε", "Twin", "Engine", "Transfer rate", "Labels differ", "Engine alone wrong", "n"),
        [
            (
                t.engine,
                t.source,
                t.attack,
                run.radius(t.source, t.attack, t.eps_exact),
                estimate(t.twin_accuracy, wilson(round(t.twin_accuracy * t.n), t.n)) if t.n else NONE,
                estimate(t.engine_accuracy, t.ci95),
                NONE if t.transfer_rate is None else estimate(t.transfer_rate, t.transfer_ci95),
                percent(t.label_disagreement),
                percent(t.differential_evasion),
                count(t.n),
            )
            for t in replays(run.record)
        ],
        numbers=range(3, 10),
        note="Transfer rate: of the images that the engine and the model the set was made on have right when clean, and "
        "that fool that model, the share that fools the engine too "
        "(– where there is none). A low rate is no proof of robustness. "
        "Labels differ: twin and engine answer differently, right or wrong.",
    )


def _flips(run: Run) -> Table:
    return table(
        "Flip matrix",
        ("Engine", "Made on", "Attack", "ε", "Both right", "Twin only", "Engine only", "Both wrong", "n"),
        [(t.engine, t.source, t.attack, run.radius(t.source, t.attack, t.eps_exact), *_matrix(t), count(t.n)) for t in replays(run.record)],
        numbers=range(3, 9),
        note="Images, counted in pairs: twin and engine on the same adversarial bytes.",
    )


def _matrix(transfer: Transfer) -> list[Cell]:
    flips = transfer.flips
    return _shaded(flips.both_right, flips.twin_only, flips.engine_only, flips.both_wrong)


def _shaded(*counts: int) -> list[Cell]:
    total = max(sum(counts), 1)
    return [Cell(count(number), heat=number / total) for number in counts]
