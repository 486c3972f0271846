"""Robustness: the same adversarial bytes on the twin and on every engine."""

from __future__ import annotations

from harness.answers import TWIN
from harness.records import NoiseFloor, RunRecord, Transfer
from harness.sources import SOURCES
from reports.elements import Section, Table, table
from reports.format import EMPTY, NONE, count, estimate, percent, points, significant
from reports.outcomes import WorstCase, wilson, worst_cases
from reports.run import GATE_SOURCE, Run
from reports.sections.verdict import called


def section(run: Run) -> Section:
    """Worst case per radius, then every set by itself."""
    record = run.record
    if not replays(record):
        return Section("robustness", "Robustness", ["No adversarial image has been replayed on an engine."])
    paragraphs = [
        "Adversarial images were rounded to whole pixel values and shown byte for byte to the twin and to every engine. "
        "An image counts as right where the model has it right both clean and attacked.",
        f"Made on: {'; '.join(_sources(record))}.",
    ]
    inherited = dict.fromkeys((a.target, a.inherited_from) for a in record.attacks if a.inherited_from is not None)
    paragraphs += [
        f"The attacks on {target} itself (S4) are those on {other}: the two answered alike, to the bit, to every image."
        for target, other in inherited
    ]
    if record.noise is not None:
        paragraphs.append(_noise(record.noise))
    none: list[WorstCase] = []
    worst = run.attempt("worst cases", lambda: worst_cases(run), none)
    tables = [_worst(worst)] if worst else []
    return Section("robustness", "Robustness", paragraphs, [*tables, *_in_words(record), *_seeded(run), _replayed(run)])


def _noise(noise: NoiseFloor) -> str:
    """The floor in words."""
    return (
        f"Without an adversary: of {count(noise.n)} attacked images, one draw of random signs of ε = {noise.eps_exact} leaves the twin "
        f"{estimate(noise.mean, noise.ci95)} right on average over {len(noise.right)} draws (95 % interval over the draws), from "
        f"{percent(noise.minimum)} to {percent(noise.maximum)}; the worst draw of each image leaves {percent(noise.worst)}."
    )


def _worst(cases: list[WorstCase]) -> Table:
    return table(
        "Worst case over the attacks",
        ("Engine", "ε", "Twin", "Engine", "Gap (points)", "Sets", "n"),
        [
            (
                case.engine,
                "clean" if case.eps == 0 else str(case.eps),
                estimate(case.twin / case.n, wilson(case.twin, case.n)),
                estimate(case.right / case.n, wilson(case.right, case.n)),
                points((case.twin - case.right) / case.n),
                count(case.attacks) if case.attacks else NONE,
                count(case.n),
            )
            for case in cases
        ],
        numbers=range(1, 7),
        note="Each image against every L-inf set up to that radius: it survives only if none fools the model (noise is left out). "
        "Intervals are 95 % Wilson.",
    )


def _in_words(record: RunRecord) -> list[Table]:
    """Every claim with its whole reason, and what stands beside the verdict without deciding it."""
    rows = [
        (called(c), c.statement, c.reason, estimate(c.relative_robustness, c.relative_ci95), significant(c.mcnemar_p))
        for c in record.claims
    ]
    note = (
        "Engine / twin: the engine's worst-case accuracy as a share of the twin's, with its 95 % interval (paired bootstrap). McNemar's p: "
        "exact, two-sided, of no gap at all, not corrected. Neither decides: a large p is no evidence that the two are equal."
    )
    columns = ("Engine", "Claim", "Why this verdict", "Engine / twin", "McNemar's p")
    return [table("Claims in words", columns, rows, numbers=(3, 4), note=note)] if rows else []


def replays(record: RunRecord) -> list[Transfer]:
    """The replayed sets, without those made only for a gate."""
    return [t for t in record.transfer if t.source != GATE_SOURCE]


def _aim(transfer: Transfer) -> str:
    """The source, and the engine that a set is aimed at."""
    return transfer.source if transfer.target == TWIN else f"{transfer.source}, {transfer.target}"


def _sources(record: RunRecord) -> list[str]:
    """Each source that was used, explained."""
    used = dict.fromkeys(t.source for t in replays(record))
    return [f"{source}, {SOURCES[source].title}" if source in SOURCES else source for source in used]


def _seeded(run: Run) -> list[Table]:
    """The transfer rates over all seeds."""
    rows = [
        (
            s.engine,
            s.source if s.target == TWIN else f"{s.source}, {s.target}",
            s.attack,
            run.radius(s.source, s.attack, s.eps_exact),
            ", ".join(map(str, s.seeds)),
            estimate(s.transfer_rate, s.ci95),
        )
        for s in run.record.seeded
    ]
    note = (
        "As below, over the images of all seeds; 95 % interval by a bootstrap over images. The later seeds attack only the images on which "
        "some model held out until then."
    )
    columns = ("Engine", "Made on", "Attack", "ε", "Seeds", "Transfer rate")
    return [table("Transfer over seeds", columns, rows, numbers=(3, 5), note=note)] if rows else []


def _shares(t: Transfer) -> tuple[str, ...]:
    return (
        estimate(t.twin_accuracy, wilson(round(t.twin_accuracy * t.n), t.n)),
        estimate(t.engine_accuracy, t.ci95),
        NONE if t.transfer_rate is None else estimate(t.transfer_rate, t.transfer_ci95),
        percent(t.label_disagreement),
        percent(t.differential_evasion),
    )


def _replayed(run: Run) -> Table:
    return table(
        "Each attack",
        ("Engine", "Made on", "Attack", "ε", "Twin", "Engine", "Transfer rate", "Labels differ", "Engine alone wrong", "n"),
        [
            (
                t.engine,
                _aim(t),
                t.attack,
                run.radius(t.source, t.attack, t.eps_exact),
                *(_shares(t) if t.n else [NONE] * 5),
                count(t.n) if t.n else EMPTY,
            )
            for t in replays(run.record)
        ],
        numbers=range(3, 10),
        note="Transfer rate: of the images both have right when clean and that fool the model they were made on, the share that fools the "
        "engine too (– where there is none). A low rate is no proof of robustness. "
        "Labels differ: twin and engine answer differently, right or wrong. None left: no image on which the twin or an engine held out.",
        fold=True,
    )
