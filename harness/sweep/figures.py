"""A finished cell's figures, out of its card and its run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from harness.answers import TWIN, Right
from harness.audit.statistics import share
from harness.cards import epochs
from harness.compression import count
from harness.compression.count import ratios, size
from harness.errors import UntrustedError, UsageError
from harness.models.load import load_twin
from harness.records import EngineRecord, RunRecord, Share
from harness.sources import deciding
from harness.sweep.cells import Cell
from harness.sweep.plan import CellNetwork, SweepPlan
from harness.sweep.record import AgainstParent, CellRow, EngineRow, Size
from harness.sweep.tasks import Bench
from reports.outcomes import answering, clean_right
from reports.run import Run


@dataclass(frozen=True)
class Survivors:
    """Who was right clean and under every attack of the primary radius, bool (n,), in the order of the images' indices."""

    twin: Right
    engines: dict[str, Right]


def survivors(run: Run) -> Survivors | None:
    """Per image, of one run; None where no L-inf attack was made or no engine answered."""
    radii = {claim.eps_exact for claim in run.raw.claims}
    engines = answering(run)
    if not radii or not engines:
        return None
    eps, matrix = max(map(Fraction, radii)), run.matrix
    own = {engine: deciding(matrix.columns, engine, eps) for engine in engines}
    everything = [column for columns in own.values() for column in columns]
    return Survivors(matrix.worst_case(TWIN, everything), {engine: matrix.worst_case(engine, own[engine]) for engine in engines})


def kept_row(plan: SweepPlan, cell: Cell, network: CellNetwork, bench: Bench, *, fresh: bool = False) -> CellRow | None:
    """The row of a cell whose run is in the cache; None where that has to be made: there is none, or it is damaged, or another network's.

    Args:
        fresh: it was made just now; nothing of it may be wrong, and whatever it came to counts.

    Raises:
        UsageError, UntrustedError: it is fresh, and damaged all the same.
    """
    try:
        folder = plan.run(bench, fresh=fresh)
        return None if folder is None else row(cell, network, folder)
    except (UsageError, UntrustedError):
        if fresh:
            raise
        return None


def row(cell: Cell, network: CellNetwork, folder: Path) -> CellRow:
    """The row of a finished cell, by itself: its network's file and card, and its run folder.

    Raises:
        UsageError, UntrustedError: that is damaged, or another network's.
    """
    run = Run.open(folder)
    record = RunRecord.load(folder)
    if (found := record.model.sha256) != network.sha256:
        raise UntrustedError(f"{folder} is the run of a network with sha256 {found[:12]}…, {cell.label} has {network.sha256[:12]}…")
    worst = survivors(run)
    return blank(cell).model_copy(
        update={
            "status": "finished",
            "sha256": network.sha256,
            **made_by(network.card),
            "epochs": epochs(network.card),
            "weights": network.model.model,
            "run": str(folder),
            "clean": _twin_clean(run),
            "robust": None if worst is None else share(int(worst.twin.sum()), len(worst.twin)),
            "verdict": record.verdict,
            "size": _size(network),
            "engines": [engine_row(engine, record) for engine in record.engines],
        }
    )


def beside_parent(own: CellRow, parent: CellRow) -> CellRow:
    """The row with gamma, and what its engines need less than the parent's; as it is where either is not finished."""
    if own.size is None or parent.size is None:
        return own
    gamma = ratios(count.Size(**parent.size.model_dump()), count.Size(**own.size.model_dump()))
    return own.model_copy(update={"gamma": gamma, "engines": [beside(engine, parent) for engine in own.engines]})


def blank(cell: Cell) -> CellRow:
    """The row of a cell of which nothing is known yet."""
    request = cell.request
    made = {} if request is None else request.model_dump(include={"method", "rate", "pattern", "student", "recipe", "seed"})
    return CellRow(label=cell.label, parent=Path(cell.parent.model).stem, status="to do", eps=cell.eps, **made)


def made_by(card: Mapping[str, Any]) -> dict[str, Any]:
    """How a compressed network was made, by its card; nothing for one that was not compressed."""
    if (made := card.get("method")) is None:
        return {}
    columns = {"method": made["name"], "rate": made.get("rate") or None, "pattern": made.get("pattern"), "seed": card.get("seed")}
    return {**columns, "parent": made["parent"]["name"], "parent_sha256": made["parent"]["sha256"]}


def engine_row(engine: EngineRecord, record: RunRecord) -> EngineRow:
    """One engine's figures; measurements that do not count are left out, and all of an emulator's times."""
    claim = next((claim for claim in record.claims if claim.engine == engine.name), None)
    timed = {batch: latency.p50 for batch, latency in engine.latency.items() if not latency.invalid}
    return EngineRow(
        flavour=engine.name,
        status=engine.status,
        error=engine.error,
        precision=engine.precision_evidence.label if engine.precision_evidence else None,
        clean=engine.clean,
        robust=claim.engine_robust if claim else None,
        verdict=claim.verdict if claim else None,
        latency_ms={} if record.device.emulated else timed,
        latency_invalid=next((reason for latency in engine.latency.values() for reason in latency.invalid), None),
        memory_bytes=engine.memory.peak_bytes if engine.memory.device_bytes is None else engine.memory.device_bytes,
        artefact_bytes=engine.memory.artefact_bytes,
        simulated=engine.simulated is not None,
    )


def beside(engine: EngineRow, parent: CellRow) -> EngineRow:
    """The row with what the engine needs less than the parent's engine of the same flavour."""
    other = next((e for e in parent.engines if e.flavour == engine.flavour), None)
    if other is None:
        return engine
    return engine.model_copy(
        update={
            "against_parent": AgainstParent(
                latency={b: other.latency_ms[b] / ms for b, ms in engine.latency_ms.items() if b in other.latency_ms and ms > 0},
                memory=_ratio(other.memory_bytes, engine.memory_bytes),
                artefact=_ratio(other.artefact_bytes, engine.artefact_bytes),
            )
        }
    )


def _ratio(before: int | None, after: int | None) -> float | None:
    return before / after if before and after else None


def _twin_clean(run: Run) -> Share | None:
    right = clean_right(run)
    return None if right is None else share(int(right.sum()), len(right))


def _size(network: CellNetwork) -> Size:
    """By its card, or counted as a card does."""
    if "size" in network.card:
        return Size(**network.card["size"]["this"])
    twin = load_twin(**network.model.model_dump(), data_shape=network.input_shape)
    return Size(**vars(size(twin.module, twin.input_shape)))
