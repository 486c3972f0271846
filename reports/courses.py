"""Latency and telemetry of one engine over the same time: stacked panels that share their axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reports.plots import FONT_PT, GRID, INK, MUTED, colour, stacked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]

BINS = 240  # points of a course that are drawn at most; each stands for the calls or samples of its share of the time


@dataclass(frozen=True)
class Course:
    """One line: seconds, values, and between which values its points lie; each (points,)."""

    name: str
    seconds: Floats
    values: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Panel:
    """Courses with the same unit. `log`: a logarithmic axis."""

    label: str
    courses: Sequence[Course]
    log: bool = False


@dataclass(frozen=True)
class Span:
    """A stretch of time with a name, e.g. that of one batch size; `sound` where what was measured in it counts."""

    name: str
    start_s: float
    end_s: float
    sound: bool = True


def course(name: str, seconds: Floats, values: Floats) -> Course:
    """A course of at most `BINS` points: the median of each bin, and its extremes. NaN are left out.

    Args:
        name: of the line.
        seconds, values: float64 (n,), in order of time.
    """
    known = ~np.isnan(values)
    seconds, values = seconds[known], values[known]
    parts = [part for part in np.array_split(np.arange(len(values)), min(BINS, max(len(values), 1))) if len(part)]
    return Course(
        name,
        np.array([np.median(seconds[part]) for part in parts]),
        np.array([np.median(values[part]) for part in parts]),
        np.array([values[part].min() for part in parts]),
        np.array([values[part].max() for part in parts]),
    )


def timeline(panels: Sequence[Panel], spans: Sequence[Span], alt: str, mark: str = "") -> str:
    """The panels below each other, spans shaded behind them and named above the first."""

    def draw(rows: Sequence[Axes]) -> None:
        for axes, panel in zip(rows, panels, strict=True):
            _draw(axes, panel)
            for span in spans:
                axes.axvspan(span.start_s, span.end_s, color=GRID if span.sound else MUTED, alpha=0.35 if span.sound else 0.3, linewidth=0)
        for span in spans:
            text = span.name if span.sound else f"{span.name}\nINVALID"
            place = ((span.start_s + span.end_s) / 2, 1.0)
            rows[0].annotate(
                text,
                place,
                xycoords=("data", "axes fraction"),
                ha="center",
                va="bottom",
                fontsize=FONT_PT - 2,
                color=INK,
                annotation_clip=False,
            )
        rows[-1].set_xlabel("seconds since sampling began")

    return stacked(draw, len(panels), (7.4, 0.6 + 1.15 * len(panels)), alt, mark)


def _draw(axes: Axes, panel: Panel) -> None:
    for position, line in enumerate(panel.courses):
        axes.fill_between(line.seconds, line.low, line.high, color=colour(position), alpha=0.18, linewidth=0)
        axes.plot(line.seconds, line.values, color=colour(position), linewidth=1.2, label=line.name)
    if panel.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: "")
    axes.set_ylabel(panel.label)
    if len(panel.courses) > 1:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=FONT_PT - 2, handlelength=1)
