"""Robust accuracy against a cost: the Pareto front, the rule and its answer, as a figure and a section."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.sweep.record import Front, Point
from reports import plots
from reports.elements import Cell, Section, Table, Tone, table
from reports.figures import Figure
from reports.format import estimate, points, significant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KEY = "recommendation"
KINDS = ("recommended", "on the front", "dominated")
TONES: dict[str, Tone] = {KINDS[0]: "good", KINDS[1]: "strong", KINDS[2]: "muted"}


def section(fronts: Sequence[Front]) -> Section:
    """Each front's answer in words, and its candidates."""
    if not fronts:
        return Section(KEY, "Recommendation", ["None: it takes at least two engines that were attacked and whose verdict is sound."])
    answers = [f"{title(front)}: {chosen(front)}. {front.reason}" for front in fronts]
    rules = list(dict.fromkeys(f"Rule. {front.rule}" for front in fronts))
    return Section(KEY, "Recommendation", [*answers, *rules], [_table(front) for front in fronts])


def figures(fronts: Sequence[Front], tag: str) -> list[Figure]:
    """One figure per front."""
    return [_figure(front, tag) for front in fronts]


def kind(point: Point, front: Front) -> str:
    """What a candidate is: one of `KINDS`."""
    return KINDS[0] if point.name == front.recommended else KINDS[1] if point.on_front else KINDS[2]


def chosen(front: Front) -> str:
    """The recommended candidate with its figures; that it withstands nothing is said."""
    point = next(point for point in front.points if point.name == front.recommended)
    figures = f"{estimate(point.robust.accuracy, point.robust.ci95)} robust, {significant(point.cost)} {front.unit}, n = {point.robust.n:,}"
    none = "" if point.robust.correct else "; it withstands the attacks on no image"
    return f"{front.recommended} ({figures}{none})"


def title(front: Front) -> str:
    """What the front is over."""
    return f"By {front.what}, attacked at {front.eps}"


def _table(front: Front) -> Table:
    return table(
        f"Robust accuracy at {front.eps} against {front.what}",
        ("Candidate", f"{front.what[:1].upper()}{front.what[1:]} ({front.unit})", "Robust accuracy", "Given up", "At most", "n", ""),
        [
            (
                point.name,
                significant(point.cost),
                estimate(point.robust.accuracy, point.robust.ci95),
                points(point.given_up, front.delta),
                points(point.given_up_at_most, front.delta),
                f"{point.robust.n:,}",
                Cell(kind(point, front), TONES[kind(point, front)]),
            )
            for point in front.points
        ],
        numbers=range(1, 6),
        note="Given up: points below the most robust candidate on the same images; at most: Tango's one-sided 95 % upper bound. "
        "On the front: no other candidate is at least as robust and as cheap, and better in one of the two.",
    )


def _figure(front: Front, tag: str) -> Figure:
    text = "; ".join(f"{p.name}: {100 * p.robust.accuracy:.1f} % at {significant(p.cost)} {front.unit}" for p in front.points)
    alt = f"Robust accuracy at {front.eps} against {front.what}. {text}. Recommended: {front.recommended}."
    caption = (
        f"Robust accuracy at {front.eps} against {front.what}, with 95 % Wilson intervals; the line joins the Pareto front. "
        f"Recommended: {front.recommended}. n = {front.points[0].robust.n:,} images."
    )
    return Figure(plots.svg(lambda axes: _draw(axes, front), (5.0, 3.2), alt, tag), caption)


def _draw(axes: Axes, front: Front) -> None:
    import seaborn as sns

    kinds = [kind(point, front) for point in front.points]
    costs, shares = [p.cost for p in front.points], [100 * p.robust.accuracy for p in front.points]
    for point in front.points:
        low, high = point.robust.ci95
        axes.vlines(point.cost, 100 * low, 100 * high, color=plots.MUTED, linewidth=1.0, zorder=1)
    line = [(p.cost, 100 * p.robust.accuracy) for p in front.points if p.on_front]
    axes.step(*zip(*line, strict=True), where="post", color=plots.INK, linewidth=1.2, zorder=2)
    order = sorted(range(len(kinds)), key=lambda i: KINDS.index(kinds[i]), reverse=True)  # the recommended one on top
    sns.scatterplot(
        x=[costs[i] for i in order],
        y=[shares[i] for i in order],
        hue=[kinds[i] for i in order],
        style=[kinds[i] for i in order],
        hue_order=KINDS,
        style_order=KINDS,
        palette={KINDS[0]: plots.SERIES[1], KINDS[1]: plots.SERIES[0], KINDS[2]: plots.MUTED},
        markers={KINDS[0]: "D", KINDS[1]: "o", KINDS[2]: "X"},
        s=46,
        edgecolor=plots.PAPER,
        ax=axes,
        zorder=3,
    )
    if max(costs) > 8 * min(costs) > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")  # the style draws no powers of ten
        axes.xaxis.set_minor_formatter(lambda value, _: "")
    else:
        axes.ticklabel_format(axis="x", useOffset=False)
    axes.set_ylim(0, max(5.0, 1.15 * max(100 * p.robust.ci95[1] for p in front.points)))
    axes.set_xlabel(f"{front.what}, {front.unit}")
    axes.set_ylabel(f"robust accuracy at {front.eps}, %")
    axes.legend(loc="lower right", title=None)
