"""Which figures a report has: each from the record and the raw values, with the words that say what it means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from harness.answers import TWIN
from harness.records import EngineRecord, Latency, Transfer
from reports import plots, timelines
from reports.format import clean, percent, significant
from reports.naming import brief
from reports.outcomes import distance_curves, wilson, worst_cases
from reports.run import Run
from reports.sections.robustness import replays
from reports.sections.verdict import tag

LABEL_LENGTH = 28
PERCENTILES = ("p50", "p90", "p99")


@dataclass(frozen=True)
class Figure:
    """An inline SVG with its caption."""

    svg: str
    caption: str


def figures(run: Run) -> dict[str, list[Figure]]:
    """Section key -> its figures, drawn for what the run holds."""
    return {
        "verdict": list(_gaps(run)),
        "engines": list(_latency(run)),
        "telemetry": [Figure(*drawn) for drawn in timelines.drawn(run)],
        "robustness": [*_curve(run), *_bars(run), *_distances(run)],
    }


def _short(text: str) -> str:
    text = brief(clean(text))
    return text if len(text) <= LABEL_LENGTH else f"{text[: LABEL_LENGTH - 1]}…"


def _gaps(run: Run) -> Iterator[Figure]:
    rows = [
        plots.Gap(_short(f"{claim.engine}, {claim.eps_exact}"), 100 * claim.gap, 100 * claim.lower, 100 * claim.upper, 100 * claim.margin)
        for claim in run.record.claims
        if claim.gap is not None and claim.lower is not None and claim.upper is not None
    ]
    if rows:
        text = "; ".join(f"{row.name}: {row.gap:.1f}, {row.lower:.1f} to {row.upper:.1f}, margin {row.margin:.1f}" for row in rows)
        caption = (
            "Robustness lost on the engine. Dot: the gap seen; bar: its one-sided 95 % bounds. "
            "A bar left of the margin would support the claim, one right of it refutes it. "
            f"{_images(claim.n for claim in run.record.claims)}"
        )
        yield Figure(plots.gaps(rows, f"Gap in percentage points. {text}.", tag(run.record)), caption)


def _latency(run: Run) -> Iterator[Figure]:
    record = run.record
    if record.device.emulated:
        return
    batches = sorted({batch for engine in record.engines for batch in engine.latency}, key=int)
    for batch in batches:
        rows = [row for engine in record.engines if (row := _durations(run, engine, batch)) is not None]
        if not rows:
            continue
        edge = plots.latency_edge(rows)
        beyond = sum(int((row.values > edge).sum()) for row in rows)
        calls = sum(len(row.values) for row in rows)
        text = "; ".join(f"{row.name}: median {significant(float(np.median(row.values)))} ms" for row in rows)
        caption = (
            f"Latency at batch {batch}: every timed call, n = {', '.join(f'{len(row.values):,}' for row in rows)}. "
            "The wider the shape, the more calls took that long; lines mark the percentiles that n allows. "
            f"{beyond:,} of {calls:,} calls lie beyond the right edge."
        )
        yield Figure(plots.latency(rows, f"batch {batch}", f"Distribution of latency at batch {batch}. {text}.", tag(record)), caption)


def _durations(run: Run, engine: EngineRecord, batch: str) -> plots.Durations | None:
    latency: Latency | None = engine.latency.get(batch)
    values = run.latency_ms(latency) if latency and not latency.invalid else None
    if latency is None or values is None or not len(values):
        return None
    marks = {name: value for name in PERCENTILES if (value := getattr(latency, name)) is not None}
    return plots.Durations(_short(engine.name), values, marks)


def _curve(run: Run) -> Iterator[Figure]:
    cases = worst_cases(run)
    if not any(case.eps for case in cases):
        return
    engines = list(dict.fromkeys(case.engine for case in cases))
    widest = max(engines, key=lambda engine: sum(case.attacks for case in cases if case.engine == engine))
    most = [case for case in cases if case.engine == widest]
    lines = [_line("twin", [(float(case.eps * 255), case.twin, case.n) for case in most])]
    lines += [
        _line(_short(name), [(float(case.eps * 255), case.right, case.n) for case in cases if case.engine == name]) for name in engines
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
    curves = distance_curves(run)
    if not curves:
        return
    lines = [
        _line(_short(model), [(float(r), int(right), n) for r, right in zip(radii, kept, strict=True)])
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


def _line(name: str, values: list[tuple[float, int, int]]) -> plots.Line:
    """A line from (radius, images right, n)."""
    bounds = [wilson(right, n) for _, right, n in values]
    columns = (
        [radius for radius, _, _ in values],
        [right / n for _, right, n in values],
        [low for low, _ in bounds],
        [high for _, high in bounds],
    )
    return plots.Line(name, *map(np.array, columns))


def _images(sizes: Iterable[int]) -> str:
    return f"n = {', '.join(f'{n:,}' for n in sorted(set(sizes)))} images."


def _bars(run: Run) -> Iterator[Figure]:
    """Every L-inf attack at the claimed radius, or at the largest where nothing was claimed."""
    record = run.record
    transfers = [t for t in replays(record) if t.n and run.norm(t.source, t.attack, t.eps_exact) == "Linf"]
    radii = {t.eps_exact for t in transfers}
    claimed = radii & {claim.eps_exact for claim in record.claims}
    for eps in sorted(claimed or radii, key=Fraction, reverse=True)[:1]:
        here = [t for t in transfers if t.eps_exact == eps]
        models = ["twin", *(_short(engine) for engine in dict.fromkeys(t.engine for t in here))]
        rows = list(_groups(here))
        text = "; ".join(f"{row.group}, {row.model}: {percent(row.share)}" for row in rows)
        caption = (
            f"Each attack at ε = {clean(eps)} on the twin and, byte for byte, on the engines: accuracy left, with 95 % Wilson intervals. "
            f"Shorter bars: a stronger attack. {_images(t.n for t in here)}"
        )
        yield Figure(plots.bars(rows, models, f"Accuracy under each attack at {clean(eps)}. {text}.", tag(record)), caption)


def _groups(transfers: list[Transfer]) -> Iterator[plots.Bar]:
    seen = set()
    for t in transfers:
        group = _short(f"{t.attack} ({t.source}{'' if t.target == TWIN else f', {t.target}'})")
        if group not in seen:
            seen.add(group)
            yield plots.Bar(group, "twin", t.twin_accuracy, *wilson(round(t.twin_accuracy * t.n), t.n))
        yield plots.Bar(group, _short(t.engine), t.engine_accuracy, *t.ci95)
