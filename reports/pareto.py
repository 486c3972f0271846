"""Robust accuracy against a cost, engine by engine: who is beaten in both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.records import EngineRecord, RunRecord, Share


@dataclass(frozen=True)
class Spot:
    """An engine. `beaten_by`: another that is at least as robust and as cheap, and better in one of the two; empty: it is on the front."""

    engine: str
    cost: float
    robust: Share
    beaten_by: str = ""


@dataclass(frozen=True)
class Plane:
    """The engines over one cost. `position`: engine -> its place in the record."""

    cost: str
    unit: str
    eps: str
    spots: list[Spot]
    position: dict[str, int]


def planes(record: RunRecord) -> Iterator[Plane]:
    """One per cost that at least two engines with a sound verdict have: latency at the smallest batch, memory in use, the file."""
    batch = min((batch for engine in record.engines for batch in engine.latency), key=int, default="")
    costs: dict[tuple[str, str], Callable[[EngineRecord], float | None]] = {
        (f"latency p50, batch {batch}", "ms"): lambda engine: _p50(engine, batch),
        ("peak memory", "MiB"): lambda engine: _mebibytes(engine.memory.device_bytes or engine.memory.peak_bytes),
        ("file", "MiB"): lambda engine: _mebibytes(engine.memory.artefact_bytes),
    }
    position = {engine.name: place for place, engine in enumerate(record.engines)}
    robust = {c.engine: c for c in record.claims if c.verdict.sound and c.engine_robust is not None}
    for (what, unit), cost in costs.items():
        if record.device.emulated and what != "file":
            continue
        spots = [
            Spot(engine.name, value, share)
            for engine in record.engines
            if engine.name in robust and (share := robust[engine.name].engine_robust) is not None and (value := cost(engine)) is not None
        ]
        if len(spots) > 1:
            yield Plane(what, unit, next(iter(robust.values())).eps_exact, [_judged(spot, spots) for spot in spots], position)


def _judged(spot: Spot, spots: list[Spot]) -> Spot:
    better = [other.engine for other in spots if _dominates(other, spot)]
    return Spot(spot.engine, spot.cost, spot.robust, better[0] if better else "")


def _dominates(one: Spot, other: Spot) -> bool:
    """At least as robust and at most as costly, and better in one of the two."""
    robust = one.robust.accuracy - other.robust.accuracy
    return robust >= 0 and one.cost <= other.cost and (robust > 0 or one.cost < other.cost)


def _p50(engine: EngineRecord, batch: str) -> float | None:
    latency = engine.latency.get(batch)
    return None if latency is None or latency.invalid else latency.p50


def _mebibytes(count: int | None) -> float | None:
    return None if count is None else count / 2**20
