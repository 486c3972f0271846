"""The flip matrix: on how many images twin and engine part, when clean and in the worst case of each radius."""

from __future__ import annotations

from reports.elements import Cell, Section, table
from reports.format import count
from reports.outcomes import WorstCase, worst_cases
from reports.run import Run


def section(run: Run) -> Section | None:
    """Counts of images in pairs; nothing where nothing was attacked."""
    cases = worst_cases(run)
    if not cases:
        return None
    flips = table(
        "Images by who has them right",
        ("Engine", "ε", "Both right", "Twin only", "Engine only", "Both wrong", "n"),
        [(case.engine, "clean" if case.eps == 0 else str(case.eps), *_shaded(case), count(case.n)) for case in cases],
        numbers=range(1, 7),
        note="Twin only: right on the twin and wrong on the engine, so lost by the conversion. Engine only: the reverse. A radius counts "
        "every set of at most that radius; noise is left out.",
    )
    return Section("flips", "Flip matrix", [], [flips])


def _shaded(case: WorstCase) -> list[Cell]:
    counts = (case.both_right, case.twin_only, case.engine_only, case.both_wrong)
    return [Cell(count(number), heat=number / max(case.n, 1)) for number in counts]
