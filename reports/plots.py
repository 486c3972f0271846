"""Values in, inline SVG out: transparent, and coloured by the page's CSS variables, so that one figure serves light, dark and print."""

from __future__ import annotations

import hashlib
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

# Okabe & Ito's colours, told apart with any colour vision, the light ones darkened to a contrast of 3 to 1 on paper. The twin is drawn in
# ink, engines in these, each with its own marker.
SERIES = ("#0072b2", "#d55e00", "#008a65", "#b85f93", "#a87400", "#2f8fc4")
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
    "xtick.major.pad": 8,
    "ytick.major.pad": 8,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "edge-harness",
}


@dataclass(frozen=True)
class Line:
    """A curve with its 95 % band, all shares in [0, 1], over attack radii; each array (points,). `place` of the engine; None: the twin."""

    name: str
    radius: NDArray[np.float64]
    share: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    place: int | None = None


@dataclass(frozen=True)
class Stair:
    """Images that a model has right before the first attack and after each, int (attacks + 1,). `place` of the engine; None: the twin."""

    name: str
    place: int | None
    left: NDArray[np.int64]


@dataclass(frozen=True)
class Gap:
    """A gap with its bounds and the margin that is allowed, in percentage points."""

    name: str
    gap: float
    lower: float
    upper: float
    margin: float


@dataclass(frozen=True)
class Turns:
    """What one engine did round by round; each array (rounds,). Milliseconds, degrees, gigahertz; NaN where it is not known."""

    name: str
    place: int
    low: NDArray[np.float64]
    median: NDArray[np.float64]
    high: NDArray[np.float64]
    temperature: NDArray[np.float64]
    clock: NDArray[np.float64]


@dataclass(frozen=True)
class Dot:
    """An engine over a cost: its robust accuracy with the interval, and whether it is on the front."""

    name: str
    place: int
    cost: float
    share: float
    interval: tuple[float, float]
    front: bool


def colour(place: int | None) -> str:
    """The colour of the engine at this place in the record; None: the twin's."""
    return INK if place is None else SERIES[place % len(SERIES)]


def marker(place: int | None) -> str:
    """The marker that goes with it."""
    return "o" if place is None else MARKERS[place % len(MARKERS)]


def gaps(rows: Sequence[Gap], alt: str, mark: str = "") -> str:
    """Gap and bounds of every claim against zero and the margin."""

    def draw(axes: Axes) -> None:
        place = np.arange(len(rows))[::-1]
        for y, row in zip(place, rows, strict=True):
            axes.plot([row.lower, row.upper], [y, y], color=INK, linewidth=2, solid_capstyle="butt")
            axes.plot(row.gap, y, marker="o", markersize=6, color=INK)
            axes.plot([row.margin, row.margin], [y - 0.4, y + 0.4], color=SERIES[1], linewidth=2)
        axes.annotate("margin", (rows[0].margin, place[0] + 0.42), ha="center", va="bottom", color=INK, fontsize=FONT_PT - 1)
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
        for line in lines:
            twin = line.place is None
            shade = colour(line.place)
            axes.fill_between(line.radius, 100 * line.low, 100 * line.high, color=shade, alpha=0.12, linewidth=0)
            (drawn,) = axes.plot(
                line.radius, 100 * line.share, "--" if twin else "-", color=shade, label=line.name, zorder=4 if twin else 3
            )
            if few:
                drawn.set(marker=marker(line.place), markersize=5, markeredgecolor=PAPER)
        if few:
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_ylim(0, 100)
        axes.set_xlabel(axis)
        axes.set_ylabel("right, %")
        legend_above(axes)

    return svg(draw, (5.0, 3.2), alt, mark)


def rounds(engines: Sequence[Turns], alt: str, mark: str = "") -> str:
    """Latency over the rounds, medians with a band of 80 % of the calls; below it temperature and clock where they are known."""
    kinds = {"latency, ms": "median", "hottest, °C": "temperature", "clock, GHz": "clock"}
    known = {label: name for label, name in kinds.items() if any(np.isfinite(getattr(one, name)).any() for one in engines)}

    def draw(rows: Sequence[Axes]) -> None:
        for axes, (label, name) in zip(rows, known.items(), strict=True):
            for one in engines:
                turn = np.arange(1, len(one.median) + 1)
                if name == "median":
                    axes.fill_between(turn, one.low, one.high, color=colour(one.place), alpha=0.15, linewidth=0)
                axes.plot(
                    turn,
                    getattr(one, name),
                    color=colour(one.place),
                    marker=marker(one.place),
                    markersize=4,
                    markeredgecolor=PAPER,
                    label=one.name,
                )
            axes.set_ylabel(label)
        rows[0].set_ylim(bottom=0)
        legend_above(rows[0])
        rows[-1].set_xticks(np.unique(np.linspace(1, max(len(one.median) for one in engines), 10).round().astype(int)))
        rows[-1].set_xlabel("round")

    return stacked(draw, len(known), (5.0, 1.9 + 0.95 * len(known)), alt, mark)


def pareto(dots: Sequence[Dot], axis: str, alt: str, mark: str = "") -> str:
    """Robust accuracy over a cost; the line joins the engines on the front, a hollow marker is beaten in both."""

    def draw(axes: Axes) -> None:
        front = sorted((dot.cost, 100 * dot.share) for dot in dots if dot.front)
        axes.step(*zip(*front, strict=True), where="post", color=MUTED, linewidth=1.0, zorder=1)
        for dot in dots:
            shade = colour(dot.place)
            axes.vlines(dot.cost, 100 * dot.interval[0], 100 * dot.interval[1], color=shade, linewidth=1.2, zorder=2)
            face = shade if dot.front else PAPER
            axes.plot(
                dot.cost, 100 * dot.share, marker(dot.place), markersize=7, color=shade, markerfacecolor=face, label=dot.name, zorder=3
            )
        costs = [dot.cost for dot in dots]
        spread = max(costs) / min(costs) if min(costs) > 0 else 1.0
        if spread > 8:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")  # the style draws no powers of ten
            axes.xaxis.set_minor_formatter(lambda value, _: "")
        else:
            axes.set_xlim(0, 1.15 * max(costs))
        axes.set_ylim(0, min(105.0, max(5.0, 120 * max(dot.interval[1] for dot in dots))))
        axes.set_xlabel(axis)
        axes.set_ylabel("robust, %")
        legend_above(axes)

    return svg(draw, (5.0, 3.0), alt, mark)


def survivors(stairs: Sequence[Stair], alt: str, mark: str = "") -> str:
    """Images left after each attack: a stair per model."""

    def draw(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        for above, stair in enumerate(stairs):
            shade, form = colour(stair.place), f"{marker(stair.place)}{'--' if stair.place is None else '-'}"
            (line,) = axes.plot(np.arange(len(stair.left)), stair.left, form, color=shade, label=stair.name, zorder=len(stairs) + 3 - above)
            line.set(drawstyle="steps-mid", linewidth=1.4, markersize=4, markeredgecolor=PAPER)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("attacks")
        axes.set_ylabel("images left")
        legend_above(axes)

    return svg(draw, (7.4, 3.2), alt, mark)


def legend_above(axes: Axes) -> None:
    """The names of the curves over the picture, where they hide none of them."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, columnspacing=1.2, borderaxespad=0.2, handlelength=1.4)


def svg(draw: Callable[[Axes], None], inches: tuple[float, float], alt: str, mark: str) -> str:
    """What `draw` draws, as an inline SVG in this project's style; `alt` says it in words, `mark` stands behind it."""
    return stacked(lambda rows: draw(rows[0]), 1, inches, alt, mark)


def stacked(draw: Callable[[Sequence[Axes]], None], panels: int, inches: tuple[float, float], alt: str, mark: str = "") -> str:
    """The same of several panels below each other that share their axis."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=inches, layout="constrained")
        rows = list(canvas.subplots(panels, 1, sharex=True, squeeze=False)[:, 0])
        for axes in rows:
            axes.tick_params(length=0)
        if mark:
            first = rows[0]
            first.text(0.5, 0.5, mark, transform=first.transAxes, ha="center", va="center", fontsize=20, alpha=0.16, color=INK, zorder=5)
        draw(rows)
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
    own = hashlib.sha256(alt.encode()).hexdigest()[:8]  # names of clips and markers are those of this figure alone
    text = re.sub(r'(\bid="|#)([mp][0-9a-f]{10})\b', rf"\g<1>\g<2>-{own}", text)
    for shade, variable in VARIABLES.items():
        text = text.replace(shade, f"var(--{variable}, {shade})")
    width, height = canvas.get_size_inches()
    box = f'viewBox="0 0 {72 * width:g} {72 * height:g}" style="max-width: {96 * width:.0f}px"'
    opening = f'<svg class="plot" role="img" aria-label="{escape(alt)}" {box}>'
    return opening + text[text.index(">") + 1 :]
