"""What each engine did round by round: latency, and the temperature and clock that were sampled beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from harness.records import EngineRecord
from reports.plots import Turns
from reports.run import Run

Floats = NDArray[np.float64]


def turns(run: Run, batch: str) -> Iterator[Turns]:
    """One per engine whose calls at that batch size count, and tell their rounds."""
    for place, engine in enumerate(run.record.engines):
        latency = engine.latency.get(batch)
        if latency is None or latency.invalid:
            continue
        values, rounds = run.latency_ms(latency), run.rounds(latency)
        if values is None or rounds is None or not len(values):
            continue
        numbers = np.unique(rounds)
        low, median, high = np.array([np.quantile(values[rounds == number], (0.1, 0.5, 0.9)) for number in numbers]).T
        when = _middles(run, engine, batch, rounds, numbers)
        warmth, clock = (_at(run.telemetry(engine) or {}, kind, when) for kind in ("temperature_c", "frequency_hz"))
        yield Turns(engine.name, place, low, median, high, warmth, clock / 1e9)


def _middles(run: Run, engine: EngineRecord, batch: str, rounds: NDArray[np.int64], numbers: NDArray[np.int64]) -> Floats:
    """When each round was half over, in nanoseconds of the worker's clock; NaN where it is not told."""
    calls = run.calls(engine.latency[batch])
    if calls is None:
        return np.full(len(numbers), np.nan)
    return np.array([np.median(calls[0][rounds == number]) for number in numbers])


def _at(telemetry: Mapping[str, Floats], kind: str, when: Floats) -> Floats:
    """The largest value of all channels of a kind at some times, interpolated; NaN where nothing was sampled."""
    found = [np.full(len(when), -np.inf)]
    for key, values in telemetry.items():
        provider, _, channel = key.partition("/")
        known = ~np.isnan(values) if channel.startswith(f"{kind}:") else np.array([False])
        if known.any():
            found.append(np.interp(when, telemetry[f"{provider}/time_ns"][known].astype(np.float64), values[known]))
    largest = np.max(found, axis=0)
    return np.where(np.isfinite(largest) & np.isfinite(when), largest, np.nan)
