"""Which figures a report has: each from the record and the raw values, with the words that say what it means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from reports import plots, timelines
from reports.cascade import cascade
from reports.format import allowed, clean, percent, points, significant
from reports.naming import brief
from reports.outcomes import distance_curves, wilson, worst_cases
from reports.pareto import planes
from reports.rounds import turns
from reports.run import Run
from reports.sections.verdict import tag
from reports.waterfall import waterfalls

LABEL_LENGTH = 28


@dataclass(frozen=True)
class Figure:
    """An inline SVG with its caption. `fold`: one that few readers need; it opens at a click, and on paper."""

    svg: str
    caption: str
    fold: bool = False


def figures(run: Run) -> dict[str, list[Figure]]:
    """Section key -> its figures, drawn for what the run holds. A reviewer's four are those of the claims."""

    def drawn(what: str, draw: Callable[[Run], Iterable[Figure]]) -> list[Figure]:
        none: list[Figure] = []
        return run.attempt(what, lambda: list(draw(run)), none)

    fronts, batches, left = drawn("Pareto fronts", _fronts), drawn("latency by round", _rounds), drawn("cascade", _survivors)
    first = [*drawn("gaps", _gaps), *drawn("security curve", _curve), *fronts[:1], *batches[:1], *fronts[1:]][:4]
    found = {
        "claims": first,
        "choice": fronts,
        "telemetry": [*batches, *drawn("course of telemetry", _courses)],
        "robustness": drawn("distance curve", _distances),
        "cascade": left,
        "decomposition": drawn("waterfall", lambda run: (Figure(*one) for one in waterfalls(run))),
    }
    return {key: [one for one in own if key == "claims" or one not in first] for key, own in found.items()}


def _courses(run: Run) -> Iterator[Figure]:
    for svg, caption in timelines.drawn(run):
        yield Figure(svg, caption, fold=True)


def _short(text: str) -> str:
    text = brief(clean(text))
    return text if len(text) <= LABEL_LENGTH else f"{text[: LABEL_LENGTH - 1]}…"


def _gaps(run: Run) -> Iterator[Figure]:
    drawn = [
        (c, plots.Gap(_short(f"{c.engine}, {c.eps_exact}"), 100 * c.gap, 100 * c.lower, 100 * c.upper, 100 * c.margin))
        for c in run.record.claims
        if c.gap is not None and c.lower is not None and c.upper is not None
    ]
    if drawn:
        text = "; ".join(
            f"{row.name}: {points(c.gap, c.margin)}, {points(c.lower, c.margin)} to {points(c.upper, c.margin)}, margin {allowed(c.margin)}"
            for c, row in drawn
        )
        caption = (
            "Robustness lost on the engine. Dot: the gap seen; bar: its one-sided 95 % bounds. "
            "A bar left of the margin would support the claim, one right of it refutes it. "
            f"{_images(claim.n for claim in run.record.claims)}"
        )
        yield Figure(plots.gaps([row for _, row in drawn], f"Gap in percentage points. {text}.", tag(run.record)), caption)


def _rounds(run: Run) -> Iterator[Figure]:
    record = run.record
    batches = {batch for engine in record.engines for batch in engine.latency} if not record.device.emulated else set()
    for batch in sorted(batches, key=int):
        engines = [replace(one, name=_short(one.name)) for one in turns(run, batch)]
        if not engines:
            continue
        text = "; ".join(f"{one.name}: {', '.join(significant(float(value)) for value in one.median)} ms" for one in engines)
        warmth = any(np.isfinite(one.temperature).any() or np.isfinite(one.clock).any() for one in engines)
        caption = (
            f"Latency at batch {batch}, round by round: medians, and bands that hold 80 % of the calls. "
            + ("Below: the hottest sensor and the fastest clock at that time. " if warmth else "No sensor told temperature or clock. ")
            + "A line that rises is a device that slows down."
        )
        yield Figure(plots.rounds(engines, f"Median latency per round at batch {batch}. {text}.", tag(record)), caption)


def _fronts(run: Run) -> Iterator[Figure]:
    for plane in planes(run.record):
        dots = [
            plots.Dot(
                _short(spot.engine), plane.position[spot.engine], spot.cost, spot.robust.accuracy, spot.robust.ci95, not spot.beaten_by
            )
            for spot in plane.spots
        ]
        text = "; ".join(f"{dot.name}: {percent(dot.share)} at {significant(dot.cost)} {plane.unit}" for dot in dots)
        caption = (
            f"Robust accuracy at ε = {clean(plane.eps)} against {plane.cost}; up and left is better. The line joins the Pareto front; "
            "a hollow marker is beaten in both by another engine. Bars are 95 % Wilson intervals."
        )
        axis = f"{plane.cost}, {plane.unit}"
        yield Figure(plots.pareto(dots, axis, f"Robust accuracy against {plane.cost}. {text}.", tag(run.record)), caption)


def _survivors(run: Run) -> Iterator[Figure]:
    models, stages = cascade(run)
    if not stages:
        return
    places = {engine.name: place for place, engine in enumerate(run.raw.engines)}
    stairs = [
        plots.Stair(_short(run.shown(model)), places.get(model), np.array([stage.left[model] for stage in stages])) for model in models
    ]
    text = "; ".join(f"{stair.name}: {stair.left[0]} to {stair.left[-1]}" for stair in stairs)
    caption = (
        "Images left after each attack that counts for the model, by its number in the table below; 0: before the first. Dashed: the twin."
    )
    yield Figure(plots.survivors(stairs, f"Images left after each attack. {text}.", tag(run.record)), caption)


def _curve(run: Run) -> Iterator[Figure]:
    cases = worst_cases(run)
    if not any(case.eps for case in cases):
        return
    engines, places = list(dict.fromkeys(case.engine for case in cases)), _places(run)
    widest = max(engines, key=lambda engine: sum(case.attacks for case in cases if case.engine == engine))
    most = [case for case in cases if case.engine == widest]
    lines = [_line("twin", [(float(case.eps * 255), case.twin, case.n) for case in most])]
    lines += [
        _line(_short(name), [(float(case.eps * 255), case.right, case.n) for case in cases if case.engine == name], places[name])
        for name in engines
    ]
    text = "; ".join(
        f"{line.name}: " + ", ".join(f"{percent(y)} at {x:g}" for x, y in zip(line.radius, line.share, strict=True)) for line in lines
    )
    caption = (
        "Security curve: accuracy left when each image meets the strongest stored attack of that radius "
        f"(sets: {', '.join(f'{case.attacks} at {case.eps}' for case in most if case.attacks)}). Bands are 95 % Wilson intervals; "
        f"where they overlap, the paired figures of the verdict still decide. {_images(case.n for case in cases)}"
    )
    yield Figure(
        plots.security_curve(lines, "ε, in units of 1/255 (0: clean)", f"Accuracy over radius in 1/255. {text}.", tag(run.record)), caption
    )


def _distances(run: Run) -> Iterator[Figure]:
    curves, places = distance_curves(run), _places(run)
    if not curves:
        return
    lines = [
        _line(_short(model), [(float(r), int(right), n) for r, right in zip(radii, kept, strict=True)], places.get(model))
        for model, (radii, kept, n) in curves.items()
    ]
    text = "; ".join(f"{line.name}: {percent(line.share[0])} clean, {percent(line.share[-1])} at {line.radius[-1]:.3g}" for line in lines)
    caption = (
        "Distance curve of the minimum-norm attack: accuracy left once images may change by this much. "
        "The images lie just behind the twin's own boundary: an engine's curve above it shows that the boundaries differ, "
        f"not that the engine is more robust. Bands are 95 % Wilson intervals. {_images(n for _, _, n in curves.values())}"
    )
    yield Figure(
        plots.security_curve(lines, "L2 distance, images in [0, 1]", f"Accuracy over L2 distance. {text}.", tag(run.record)), caption
    )


def _places(run: Run) -> dict[str, int]:
    """Engine -> its place in the record, which gives it its colour."""
    return {engine.name: place for place, engine in enumerate(run.record.engines)}


def _line(name: str, values: list[tuple[float, int, int]], place: int | None = None) -> plots.Line:
    """A line from (radius, images right, n)."""
    bounds = [wilson(right, n) for _, right, n in values]
    columns = (
        [radius for radius, _, _ in values],
        [right / n for _, right, n in values],
        [low for low, _ in bounds],
        [high for _, high in bounds],
    )
    radius, share, low, high = map(np.array, columns)
    return plots.Line(name, radius, share, low, high, place)


def _images(sizes: Iterable[int]) -> str:
    return f"n = {', '.join(f'{n:,}' for n in sorted(set(sizes)))} images."
