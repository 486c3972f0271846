"""Values in, inline SVG out: transparent, and coloured by the page's CSS variables, so that one figure serves light, dark and print."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

# Okabe & Ito's colours, told apart with any colour vision. The twin is drawn in ink, engines in these, each with its own marker.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P")
INK, MUTED, GRID, PAPER = "#1b1f24", "#5b6470", "#d9dde2", "#fefefe"
VARIABLES = {INK: "ink", MUTED: "muted", GRID: "rule", PAPER: "paper"} | {colour: f"series-{i}" for i, colour in enumerate(SERIES)}
FONT_PT = 9.5
STYLE: dict[Any, Any] = {
    "font.size": FONT_PT,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlesize": FONT_PT,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "edge-harness",
}
DRAWN_CALLS = 2_000


@dataclass(frozen=True)
class Line:
    """A curve with its 95 % band, all shares in [0, 1], over attack radii; each array of shape (points,)."""

    name: str
    radius: NDArray[np.float64]
    share: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class Bar:
    """A share with its 95 % interval, of one model in one group."""

    group: str
    model: str
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Gap:
    """A gap with its bounds and the margin that is allowed, in percentage points."""

    name: str
    gap: float
    lower: float
    upper: float
    margin: float


@dataclass(frozen=True)
class Durations:
    """The calls of one engine in milliseconds, shape (n,), and the percentiles that may be shown: name -> milliseconds."""

    name: str
    values: NDArray[np.float64]
    percentiles: dict[str, float]


def colour(position: int) -> str:
    """The colour of the engine at this position in the record."""
    return SERIES[position % len(SERIES)]


def gaps(rows: Sequence[Gap], alt: str, mark: str = "") -> str:
    """Gap and bounds of every claim against zero and the margin."""

    def draw(axes: Axes) -> None:
        place = np.arange(len(rows))[::-1]
        for y, row in zip(place, rows, strict=True):
            axes.plot([row.lower, row.upper], [y, y], color=INK, linewidth=2, solid_capstyle="butt")
            axes.plot(row.gap, y, marker="o", markersize=6, color=INK)
            axes.plot([row.margin, row.margin], [y - 0.4, y + 0.4], color=SERIES[1], linewidth=2)
        axes.annotate("margin", (rows[0].margin, place[0] + 0.42), ha="center", va="bottom", color=SERIES[1], fontsize=FONT_PT - 1)
        axes.axvline(0, color=MUTED, linewidth=0.8)
        axes.set_yticks(place, [row.name for row in rows])
        axes.set_ylim(-0.7, len(rows) - 0.1)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("twin less engine, percentage points")

    return svg(draw, (5.0, 0.85 + 0.5 * len(rows)), alt, mark)


def security_curve(lines: Sequence[Line], axis: str, alt: str, mark: str = "") -> str:
    """Accuracy over the radius, the twin first, each with its band. Few radii are marked, each at its tick; many make a plain curve."""
    ticks = np.unique(np.concatenate([line.radius for line in lines]))
    few = len(ticks) <= 12

    def draw(axes: Axes) -> None:
        for position, line in enumerate(lines):
            twin = position == 0
            shade = INK if twin else colour(position - 1)
            axes.fill_between(line.radius, 100 * line.low, 100 * line.high, color=shade, alpha=0.12, linewidth=0)
            (drawn,) = axes.plot(
                line.radius, 100 * line.share, "--" if twin else "-", color=shade, label=line.name, zorder=4 if twin else 3
            )
            if few:
                drawn.set(marker="o" if twin else MARKERS[(position - 1) % len(MARKERS)], markersize=5, markeredgecolor=PAPER)
        if few:
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_ylim(0, 100)
        axes.set_xlabel(axis)
        axes.set_ylabel("right, %")
        axes.legend(loc="upper right")

    return svg(draw, (5.0, 3.2), alt, mark)


def bars(rows: Sequence[Bar], models: Sequence[str], alt: str, mark: str = "") -> str:
    """Shares of several models side by side, one group per attack, the twin first."""

    def draw(axes: Axes) -> None:
        groups = list(dict.fromkeys(row.group for row in rows))
        height = 0.8 / len(models)
        for position, model in enumerate(models):
            own = [row for row in rows if row.model == model]
            y = np.array([len(groups) - 1 - groups.index(row.group) + 0.4 - height * (position + 0.5) for row in own])
            share = 100 * np.array([row.share for row in own])
            shade = MUTED if position == 0 else colour(position - 1)
            axes.barh(y, share, height * 0.86, color=shade, alpha=0.75, linewidth=0, label=model)
            axes.hlines(y, [100 * row.low for row in own], [100 * row.high for row in own], color=INK, linewidth=1.3)
        axes.set_yticks(range(len(groups)), groups[::-1])
        axes.set_xlim(0, 100)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("right, %")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, columnspacing=1.2, borderaxespad=0.2, handlelength=1)

    groups = len({row.group for row in rows})
    return svg(draw, (5.0, 1.0 + groups * (0.2 + 0.14 * len(models))), alt, mark)


def latency(rows: Sequence[Durations], title: str, alt: str, mark: str = "") -> str:
    """The distribution of call durations, one violin per engine, with the percentiles that may be shown."""
    import seaborn as sns

    # A few slow calls would squeeze all others into a line; the caption says how many lie beyond the edge.
    edge = latency_edge(rows)

    def draw(axes: Axes) -> None:
        drawn = [np.quantile(row.values, np.linspace(0, 1, min(len(row.values), DRAWN_CALLS))) for row in rows]
        inside = {str(i): values[values <= edge] for i, values in enumerate(drawn)}
        sns.violinplot(
            inside,
            ax=axes,
            orient="h",
            inner=None,
            cut=0,
            linewidth=0,
            density_norm="width",
            width=0.75,
            palette=[colour(i) for i in range(len(rows))],
            saturation=1,
        )
        for body in axes.collections:
            body.set_alpha(0.35)
        for y, row in enumerate(rows):
            for i, (name, value) in enumerate(row.percentiles.items()):
                if value > edge:
                    continue
                above = i % 2 == 0  # neighbours lie close: their names take turns above and below
                axes.plot([value, value], [y - 0.22, y + 0.22], color=INK, linewidth=1.4)
                axes.annotate(
                    name,
                    (value, y - 0.24 if above else y + 0.24),
                    ha="center",
                    va="bottom" if above else "top",
                    fontsize=FONT_PT - 1.5,
                    color=INK,
                )
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        start = min(float(row.values.min()) for row in rows)
        axes.set_xlim(max(0.0, start - 0.08 * (edge - start)), edge + 0.02 * (edge - start))
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("duration of one call, ms")
        axes.set_title(title)

    return svg(draw, (5.0, 0.95 + 0.65 * len(rows)), alt, mark)


def latency_edge(rows: Sequence[Durations]) -> float:
    """Where the latency figure ends: a little beyond the largest 99th percentile of its engines, in milliseconds."""
    return 1.1 * max(float(np.quantile(row.values, 0.99)) for row in rows)


def svg(draw: Callable[[Axes], None], inches: tuple[float, float], alt: str, mark: str) -> str:
    """What `draw` draws, as an inline SVG in this project's style; `alt` says it in words, `mark` stands behind it."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=inches, layout="constrained")
        axes = canvas.add_subplot()
        axes.tick_params(length=0)
        if mark:
            axes.text(0.5, 0.5, mark, transform=axes.transAxes, ha="center", va="center", fontsize=20, alpha=0.16, color=INK, zorder=5)
        draw(axes)
        return inline(canvas, alt)


def inline(canvas: Canvas, alt: str) -> str:
    """The figure as one `<svg>` element without identifiers or fonts of its own, its colours as CSS variables."""
    from markupsafe import escape

    buffer = io.StringIO()
    canvas.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"font-family: [^;]*; ", "", text)
    for shade, variable in VARIABLES.items():
        text = text.replace(shade, f"var(--{variable}, {shade})")
    width, height = canvas.get_size_inches()
    box = f'viewBox="0 0 {72 * width:g} {72 * height:g}" style="max-width: {96 * width:.0f}px"'
    opening = f'<svg class="plot" role="img" aria-label="{escape(alt)}" {box}>'
    return opening + text[text.index(">") + 1 :]
