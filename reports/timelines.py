"""Which courses a report draws beside the latency of each engine, from the raw samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from harness.records import EngineRecord
from reports.courses import Course, Panel, Span, course, timeline
from reports.format import clean
from reports.run import Run
from reports.sections.verdict import tag

Arrays = Mapping[str, NDArray[np.float64]]

# Kind of a channel -> axis label, and its factor to the unit there.
PANELS = {
    "power_w": ("power, W", 1.0),
    "temperature_c": ("temperature, °C", 1.0),
    "frequency_hz": ("clock, GHz", 1e-9),
    "utilisation": ("load, %", 100.0),
}
MOST_LINES = 8


def drawn(run: Run) -> Iterator[tuple[str, str]]:
    """An inline SVG and its caption for each engine whose samples are there."""
    if run.record.device.emulated:
        return
    for engine in run.record.engines:
        telemetry = run.telemetry(engine)
        if telemetry is None or not engine.telemetry:
            continue
        zero_ns = min(int(values[0]) for name, values in telemetry.items() if name.endswith("/time_ns"))
        panels = [*_latency(run, engine, zero_ns), *_sampled(telemetry, zero_ns), *_shares(telemetry, zero_ns)]
        spans = list(_spans(run, engine, telemetry, zero_ns))
        name = clean(engine.name)
        text = "; ".join(f"{panel.label}: {', '.join(line.name for line in panel.courses)}" for panel in panels)
        caption = (
            f"{name} over time: every timed call, and what was sampled beside it every {engine.telemetry.period_ms} ms. "
            "Lines: medians of many calls or samples; bands: their extremes. Shaded: the time at rest, and each batch size "
            "while it was timed; darker where the measurement is INVALID."
        )
        yield timeline(panels, spans, f"Telemetry of {name}. {text}.", tag(run.record)), caption


def _latency(run: Run, engine: EngineRecord, zero_ns: int) -> Iterator[Panel]:
    courses = []
    for batch in sorted(engine.latency, key=int):
        calls = run.calls(engine.latency[batch])
        if calls is not None and len(calls[0]):
            courses.append(course(f"batch {batch}", (calls[0] - zero_ns) / 1e9, calls[1]))
    if courses:
        yield Panel("latency, ms", courses, log=True)


def _sampled(telemetry: Arrays, zero_ns: int) -> Iterator[Panel]:
    for kind, (label, factor) in PANELS.items():
        lines: dict[str, Course] = {}
        for key, values in telemetry.items():
            provider, _, channel = key.partition("/")
            if channel.startswith(f"{kind}:") and not np.isnan(values).all():
                name = clean(channel.partition(":")[2])
                lines.setdefault(name, course(name, _seconds(telemetry, provider, zero_ns), factor * values))
        if lines:
            most = sorted(lines.values(), key=lambda line: -float(line.high.max()))[:MOST_LINES]
            yield Panel(label, most)


def _shares(telemetry: Arrays, zero_ns: int) -> Iterator[Panel]:
    """CPU time between two samples as shares of all: this job's, other programs', the hypervisor's."""
    if "load/ticks:total" not in telemetry:
        return
    step = {name: np.diff(telemetry[f"load/ticks:{name}"]) for name in ("busy", "steal", "total", "own")}
    with np.errstate(invalid="ignore", divide="ignore"):
        others = np.clip((step["busy"] - step["own"]) / step["total"], 0, 1)
        shares = {"this job": step["own"] / step["total"], "others": others, "hypervisor": step["steal"] / step["total"]}
    seconds = _seconds(telemetry, "load", zero_ns)[1:]
    lines = [course(name, seconds, 100 * np.where(np.isfinite(values), values, np.nan)) for name, values in shares.items()]
    if any(len(line.seconds) for line in lines):
        yield Panel("CPU time, %", lines)


def _spans(run: Run, engine: EngineRecord, telemetry: Arrays, zero_ns: int) -> Iterator[Span]:
    if "idle_ns" in telemetry and telemetry["idle_ns"][1] > telemetry["idle_ns"][0]:
        start, end = (telemetry["idle_ns"] - zero_ns) / 1e9
        yield Span("at rest", float(start), float(end))
    for batch in sorted(engine.latency, key=int):
        latency = engine.latency[batch]
        calls = run.calls(latency)
        if calls is not None and len(calls[0]):
            end_ns = calls[0][-1] + 1e6 * calls[1][-1]
            yield Span(f"batch {batch}", float(calls[0][0] - zero_ns) / 1e9, float(end_ns - zero_ns) / 1e9, not latency.invalid)


def _seconds(telemetry: Arrays, provider: str, zero_ns: int) -> NDArray[np.float64]:
    return (telemetry[f"{provider}/time_ns"] - zero_ns) / 1e9
