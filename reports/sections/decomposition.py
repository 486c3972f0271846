"""Where the robustness goes: from the twin, or what it was compressed from, step by step down to the engine and its builds."""

from __future__ import annotations

from collections.abc import Iterator

from harness.answers import TWIN
from harness.records import Decomposition, Gap, Replay, Waterfall
from reports.elements import Cell, Section, Table, table
from reports.format import NONE, count, counted, estimate, points
from reports.run import Run

LEVELS = {
    "parent": "parent, before compression",
    "twin": "twin",
    "quantized": "its graph, read back (STE twin)",
    "simulated": "exported file, node by node",
    "engine": "engine",
    "rebuild": "its worst other build",
}
UNDER = {"replay": "replay of attacks on the twin", "adaptive": "all attacks"}


def section(run: Run) -> Section | None:
    """Gaps, steps, and what fools one engine on the others."""
    record = run.record
    if not record.decompositions:
        return None
    tables = [_gaps(run), _steps(run)]
    if record.replays:
        tables.append(_replays(run))
    notes = dict.fromkeys(found.note for found in record.decompositions if found.note)
    paragraphs = [
        "Robust accuracy at the primary radius, and what each step from one model to the next costs, on the same images. The losses "
        "add up. Where adaptive attacks show a gap that replay does not, the attacks on the twin only miss the engine.",
        *notes,
    ]
    return Section("decomposition", "Where the robustness goes", paragraphs, tables)


def _gaps(run: Run) -> Table:
    return table(
        "Gap by replay and by adaptive attacks (points)",
        ("Flavour", "ε", "Replay (S1)", "Adaptive (all sets)", "n"),
        [
            (run.shown(d.engine), d.eps_exact, NONE if d.replay is None else _gap(d.replay), _gap(d.adaptive), count(d.n))
            for d in run.record.decompositions
        ],
        numbers=range(1, 5),
        note="Twin less engine, worst case over the sets: by replay of what was made on the twin, and with what was made on the engine "
        "too. In brackets the one-sided 95 % bounds (Tango).",
    )


def _steps(run: Run) -> Table:
    return table(
        "Step by step",
        ("Flavour", "Under", "Model", "Row", "Right", "Lost in this step (points)"),
        [row for found in run.record.decompositions for fall in found.waterfalls for row in _rows(run, found, fall)],
        numbers=(4, 5),
        note="Right: images that are right clean and under every set, with 95 % Wilson intervals. Lost: from the row above, negative where "
        "more are right, with the one-sided 95 % bounds of the paired difference.",
    )


def _rows(run: Run, found: Decomposition, fall: Waterfall) -> Iterator[tuple[str, ...]]:
    for level in fall.levels:
        lost = NONE if level.lost is None else _gap(level.lost)
        yield (
            run.shown(found.engine),
            UNDER[fall.under],
            LEVELS[level.name],
            run.shown(level.model),
            estimate(level.robust.accuracy, level.robust.ci95),
            lost,
        )


def _gap(gap: Gap) -> str:
    return f"{points(gap.gap)} [{points(gap.lower)}, {points(gap.upper)}]"


def _replays(run: Run) -> Table:
    """The matrix of who is fooled by what was made for whom."""
    made_for = list(dict.fromkeys(replay.made_for for replay in run.record.replays))
    shown_to = list(dict.fromkeys([TWIN, *(replay.shown_to for replay in run.record.replays)]))
    cells = {(replay.made_for, replay.shown_to): replay for replay in run.record.replays}
    return table(
        "Cross-engine replay (S6)",
        ("Made for", *map(run.shown, shown_to)),
        [(run.shown(made), *(_cell(cells.get((made, shown)), made == shown) for shown in shown_to)) for made in made_for],
        numbers=range(1, len(shown_to) + 1),
        note="Of the images that both have right when clean and on which sets made for the first fool it, the share on which one of these "
        "fools the other, with 95 % Wilson intervals and the number of images. It moves no verdict.",
    )


def _cell(replay: Replay | None, same: bool) -> Cell:
    if same or replay is None or replay.fooled is None:
        return Cell(NONE)
    return Cell(counted(replay.fooled), heat=replay.fooled.accuracy)
