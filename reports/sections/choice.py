"""Which flavour to take: robust accuracy against each cost."""

from __future__ import annotations

from reports.elements import Cell, Section, table
from reports.format import estimate, significant, size
from reports.pareto import planes
from reports.run import Run


def section(run: Run) -> Section:
    """Each cost's front in words and figures; the pictures come with it."""
    found = list(planes(run.record))
    if not found:
        reason = "It takes two engines with a sound verdict and a cost that counts; this run has fewer."
        return Section("choice", "Which flavour to take", [reason])
    rows = [
        (
            plane.cost,
            spot.engine,
            size(round(spot.cost * 2**20)) if plane.unit == "MiB" else f"{significant(spot.cost)} {plane.unit}",
            estimate(spot.robust.accuracy, spot.robust.ci95),
            Cell(f"beaten by {spot.beaten_by}", "muted") if spot.beaten_by else Cell("on the front", "good"),
        )
        for plane in found
        for spot in sorted(plane.spots, key=lambda spot: spot.cost)
    ]
    fronts = table(
        "Pareto fronts",
        ("Cost", "Engine", "It costs", "Robust accuracy", ""),
        rows,
        numbers=(2, 3),
        note="On the front: no other engine is at least as robust and as cheap, and better in one of the two. Where intervals overlap, the "
        "order of the robust accuracies is not shown by these images: then the cost decides.",
    )
    return Section("choice", "Which flavour to take", [], [fronts])
