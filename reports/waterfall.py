"""The steps of the decomposition as a waterfall: what is right at each level, and what each step takes away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness.records import Decomposition, Level, Waterfall
from reports import plots
from reports.format import percent, points
from reports.run import Run
from reports.sections.decomposition import UNDER
from reports.sections.verdict import tag

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEWEST = 3  # levels: two are the gap of the claim, which has a figure of its own
WIDTH = 0.62


def waterfalls(run: Run) -> Iterator[tuple[str, str]]:
    """Pairs (inline SVG, caption), one for each waterfall with a level between its ends."""
    for found in run.record.decompositions:
        for fall in found.waterfalls:
            if len(fall.levels) >= FEWEST:
                yield _drawn(run, found, fall)


def _drawn(run: Run, found: Decomposition, fall: Waterfall) -> tuple[str, str]:
    names = [run.shown(level.model) if level.name in ("engine", "rebuild") else level.name for level in fall.levels]
    steps = zip(names, fall.levels, strict=True)
    text = "; ".join(
        f"{name}: {percent(level.robust.accuracy)}" + ("" if level.lost is None else f", lost {points(level.lost.gap)}")
        for name, level in steps
    )
    title = f"{run.shown(found.engine)}, ε = {found.eps_exact}, {UNDER[fall.under]}"
    caption = (
        f"{title}. Grey: what is right at the first level and at the last; between them what each step takes away (orange) or gives back "
        f"(blue), with the one-sided 95 % bounds of the paired difference. n = {found.n:,} images."
    )

    def draw(axes: Axes) -> None:
        for place, level in enumerate(fall.levels):
            _bar(axes, place, level, fall.levels[place - 1] if place else None)
        last = fall.levels[-1].robust.accuracy
        axes.bar(len(names), 100 * last, WIDTH, color=plots.MUTED, alpha=0.6, linewidth=0)
        axes.set_xticks(range(len(names) + 1), [name.replace("-", "-\n", 1) for name in [*names, "left"]], fontsize=plots.FONT_PT - 2)
        axes.set_ylim(0, 112 * max(level.robust.accuracy for level in fall.levels) or 1)
        axes.set_ylabel("right, %")
        axes.grid(axis="x", visible=False)

    return plots.svg(draw, (5.4, 2.8), f"Waterfall of {title}. {text}.", tag(run.record)), caption


def _bar(axes: Axes, place: int, level: Level, before: Level | None) -> None:
    now = 100 * level.robust.accuracy
    if before is None or level.lost is None:
        axes.bar(place, now, WIDTH, color=plots.MUTED, alpha=0.6, linewidth=0)
        return
    then = 100 * before.robust.accuracy
    shade = plots.SERIES[1] if level.lost.gap > 0 else plots.SERIES[0]
    axes.bar(place, now - then, WIDTH, bottom=then, color=shade, alpha=0.8, linewidth=0)
    axes.plot([place - 1 + WIDTH / 2, place + WIDTH / 2], [then, then], color=plots.MUTED, linewidth=0.8)
    axes.plot([place, place], [then - 100 * level.lost.upper, then - 100 * level.lost.lower], color=plots.INK, linewidth=1.3)
