"""The numbers that decide, engine by engine: robustness lost, robust and clean accuracy, latency, memory."""

from __future__ import annotations

from harness.answers import TWIN
from harness.records import Claim, EngineRecord, RunRecord
from reports.elements import Cell, Section, table
from reports.format import EMULATED, NONE, estimate, percent, significant, size
from reports.outcomes import clean_right
from reports.run import Run
from reports.sections.claims import gap
from reports.sections.telemetry import INVALID
from reports.sections.verdict import TONES


def section(run: Run) -> Section:
    """A row for the twin, and one per engine."""
    record = run.record
    if not record.engines:
        return Section("numbers", "The numbers that decide", ["No engine has been run."], sheet=True)
    batch = smallest_batch(record)
    latency = f"Latency p50 / p99 (ms, batch {batch})" if batch else "Latency p50 / p99"
    columns = ("Model", "Verdict", "Robustness lost (points)", "Robust accuracy", "Clean accuracy", latency, "Peak memory", "File")
    controls = {claim.engine for claim in record.claims if claim.control}
    engines = sorted(record.engines, key=lambda engine: engine.name in controls)
    rows = [*_twin(run), *(_engine(record, engine, batch) for engine in engines)]
    note = (
        "Robustness lost: the twin's robust accuracy less the engine's, in percentage points, with 95 % bounds. Robust: right when clean "
        "and under every attack of the claim's radius. p50, p99: half, and 99 of 100, of the calls took no longer."
    )
    if len({claim.twin_robust.accuracy for claim in record.claims if claim.twin_robust is not None}) > 1:
        note += " The twin is shown each engine's own sets too: its figure beside each of them stands under How it was decided."
    figures = table("Five numbers per engine", columns, rows, numbers=range(2, 8), note=note)
    return Section("numbers", "The numbers that decide", [], [figures], sheet=True)


def smallest_batch(record: RunRecord) -> str:
    """The smallest batch size that was timed, or nothing."""
    return min((batch for engine in record.engines for batch in engine.latency), key=int, default="")


def _twin(run: Run) -> list[tuple[str | Cell, ...]]:
    """What the engines are held against; nothing where nobody asked it. Under attack that is another figure beside each engine whose own
    sets break the twin too: then from the smallest to the largest.
    """
    right = run.attempt("clean accuracy of the twin", lambda: clean_right(run), None)
    robust = sorted({claim.twin_robust.accuracy for claim in run.record.claims if claim.twin_robust is not None})
    if right is None and not robust:
        return []
    clean = NONE if right is None else percent(float(right.mean()))
    none = (NONE,) * 3
    return [(f"{TWIN} (PyTorch)", NONE, NONE, " to ".join(map(percent, dict.fromkeys((*robust[:1], *robust[-1:])))) or NONE, clean, *none)]


def _engine(record: RunRecord, engine: EngineRecord, batch: str) -> tuple[str | Cell, ...]:
    claim = next((claim for claim in record.claims if claim.engine == engine.name), None)
    memory = engine.memory.peak_bytes if engine.memory.device_bytes is None else engine.memory.device_bytes
    return (
        f"{engine.name} (control)" if claim and claim.control else engine.name,
        *_answer(claim),
        percent(engine.clean.accuracy if engine.clean else None),
        _latency(record, engine, batch),
        EMULATED if record.device.emulated else size(memory),
        size(engine.memory.artefact_bytes),
    )


def _answer(claim: Claim | None) -> tuple[Cell, str, str]:
    if claim is None:
        return Cell("no claim", "muted"), NONE, NONE
    robust = claim.engine_robust
    return Cell(claim.verdict, TONES[claim.verdict]), gap(claim), NONE if robust is None else estimate(robust.accuracy, robust.ci95)


def _latency(record: RunRecord, engine: EngineRecord, batch: str) -> Cell | str:
    latency = engine.latency.get(batch)
    if record.device.emulated:
        return EMULATED
    if latency is None:
        return NONE
    return Cell(INVALID, "bad") if latency.invalid else f"{significant(latency.p50)} / {significant(latency.p99)}"
