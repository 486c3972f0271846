"""`harness sweep`: hand out what is not in the cache, collect what ends, save after each cell, recommend and render."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness import __version__
from harness.errors import UntrustedError, UsageError
from harness.run import environment, now
from harness.settings import NEVER_BEGUN
from harness.stages.names import find_profile
from harness.sweep.cells import Cell
from harness.sweep.executors import Executor
from harness.sweep.figures import beside_parent, blank, kept_row, survivors
from harness.sweep.plan import SweepPlan
from harness.sweep.recommend import Candidate, recommend
from harness.sweep.record import SWEEP, Axis, CellRow, DeviceRow, EngineRow, Front, SweepRecord
from harness.sweep.spec import Spec
from harness.sweep.tasks import NETWORKS, RUNS, Outcome, Task
from reports.run import Run
from reports.sweep import render_sweep

STEPS = {NETWORKS: "compressed"}


def say(line: str) -> None:
    """A line for the person who waits."""
    print(line, file=sys.stderr, flush=True)


@dataclass
class Sweep:
    """A sweep under way. `rows`: label -> what is known of the cell, in order. `started`: the results it had to make itself, by key."""

    spec: Spec
    cells: Sequence[Cell]
    plan: SweepPlan
    executor: Executor
    out: Path
    command: list[str]
    created: str = field(default_factory=now)
    rows: dict[str, CellRow] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)

    def run(self) -> SweepRecord:
        """Do it all. Whatever ends is kept at once: an interrupted sweep that is started again goes on where it was."""
        self.rows = {cell.label: blank(cell) for cell in self.cells}
        waiting = {cell.label: cell for cell in self.cells if not self.advance(cell)}
        since = time.monotonic()
        while waiting:
            task, outcome = self.executor.next()
            say(self.progress(task, outcome, time.monotonic() - since))
            since = time.monotonic()
            if outcome.error is not None:
                self.fail(waiting.pop(task.label), outcome)
            elif self.advance(waiting[task.label]):
                del waiting[task.label]
        record = self.save(fronts(list(self.rows.values()), self.spec.delta, str(min(self.spec.bench.batches, default=1))))
        render_sweep(self.out)
        return record

    def advance(self, cell: Cell) -> bool:
        """Start what the cell lacks next; whether it lacks nothing, and its row is there."""
        make = self.plan.make(cell)
        network = self.plan.network(cell)
        if make is not None and network is None:
            self._start(make, cell)
            return False
        assert network is not None  # noqa: S101  # a parent's network is there
        bench = self.plan.bench(cell, network)
        found = kept_row(self.plan, cell, network, bench, fresh=bench.key in self.started)
        if found is None:
            self._start(bench, cell)
            return False
        cached = {"network_cached": None if make is None else make.key not in self.started, "run_cached": bench.key not in self.started}
        self.rows[cell.label] = found.model_copy(update=cached)
        self.save()
        return True

    def _start(self, task: Task, cell: Cell) -> None:
        self.started.add(task.key)
        self.executor.start(task, cell.number)

    def fail(self, cell: Cell, outcome: Outcome) -> None:
        """Keep why a cell failed, and its traceback where the fault is this program's."""
        self.rows[cell.label] = self.rows[cell.label].model_copy(update={"status": "failed", "error": outcome.error})
        if outcome.trace:
            (self.out / f"{cell.label}.traceback.txt").write_text(outcome.trace, encoding="utf-8")
        self.save()

    def progress(self, task: Task, outcome: Outcome, seconds: float) -> str:
        """A line about a task that has ended."""
        last = outcome.error is not None or task.kind == RUNS
        over = sum(found.status != "to do" or (last and name == task.label) for name, found in self.rows.items())
        ended = f"FAILED: {outcome.error}" if outcome.error else f"{STEPS.get(task.kind, 'benched')} ({seconds:.0f} s)"
        return f"[{over}/{len(self.rows)} cells] {task.label} {ended}"

    def save(self, found: Sequence[Front] = ()) -> SweepRecord:
        """Write `sweep.json` as things stand."""
        profile = find_profile(self.spec.bench.device, emulate=self.spec.bench.emulate, host=self.spec.bench.host)
        record = SweepRecord(
            name=self.spec.name,
            created=self.created,
            harness_version=__version__,
            command=self.command,
            spec=self.spec.model_dump(mode="json"),
            executor=self.executor.name,
            cache=str(self.plan.cache.root),
            environment=environment(),
            device=DeviceRow(name=profile.name, synthetic=profile.synthetic_clock, emulated=profile.emulated),
            tier=self.spec.bench.tier,
            cells=with_parents(list(self.rows.values())),
            fronts=list(found),
        )
        record.save(self.out)
        return record


def with_parents(rows: Sequence[CellRow]) -> list[CellRow]:
    """Every row beside that of the network it was made of, where that is in the sweep."""
    finished = {row.sha256: row for row in rows if row.sha256 is not None}
    parents = [finished.get(row.parent_sha256 or "") for row in rows]
    return [row if parent is None else beside_parent(row, parent) for row, parent in zip(rows, parents, strict=True)]


def fronts(rows: Sequence[CellRow], delta: float, batch: str) -> list[Front]:
    """The front over each cost, one for each radius that cells were attacked at. Candidates are the engines of finished cells whose
    verdict is sound: figures that a gate or a failure made worthless are no reason to choose a network.

    Args:
        rows: of the sweep.
        delta: robust accuracy that may be given up.
        batch: the batch size whose latency counts.
    """
    radii = dict.fromkeys(row.eps for row in rows)
    return [front for eps in radii for front in _fronts([row for row in rows if row.eps == eps], delta, batch, eps)]


def _fronts(rows: Sequence[CellRow], delta: float, batch: str, eps: str) -> list[Front]:
    engines = [(row, engine) for row in rows if row.run is not None for engine in row.engines if engine.sound]
    right = {row.label: survivors(Run.open(Path(row.run))) for row, _ in engines if row.run is not None}
    costs: dict[Axis, tuple[str, str, dict[tuple[str, str], float | None]]] = {
        "size": ("artefact size", "KiB", {_of(r, e): e.artefact_bytes / 1024 if e.artefact_bytes else None for r, e in engines}),
        "latency": (f"median latency at batch {batch}", "ms", {_of(r, e): e.latency_ms.get(batch) for r, e in engines}),
        "memory": ("peak memory", "MiB", {_of(r, e): e.memory_bytes / 2**20 if e.memory_bytes else None for r, e in engines}),
    }
    found = []
    for axis, (what, unit, cost) in costs.items():
        candidates = [
            Candidate(f"{row.label}, {engine.flavour}", value, answers.engines[engine.flavour])
            for row, engine in engines
            if (value := cost[_of(row, engine)]) is not None
            and (answers := right[row.label]) is not None
            and engine.flavour in answers.engines
        ]
        front = recommend(candidates, axis, what, unit, delta, eps)
        found += [front] if front is not None else []
    return found


def _of(row: CellRow, engine: EngineRow) -> tuple[str, str]:
    return row.label, engine.flavour


def check_out(out: Path, name: str) -> None:
    """Refuse a folder that holds something else than the sweep of that name; its spec may have changed since.

    Raises:
        UsageError: `out` is a file, or a folder with other things or another sweep in it.
    """
    others = out.is_dir() and any(path.name not in NEVER_BEGUN for path in out.iterdir())
    if out.is_file() or (others and not (out / SWEEP).is_file()):
        raise UsageError(f"--out {out} holds something else than a sweep. Choose a folder that is new, or that of this sweep.")
    try:
        found = SweepRecord.load(out).name
    except (UsageError, UntrustedError):
        found = name  # there is none; one that is damaged is made again
    if found != name:
        raise UsageError(f"--out {out} holds the sweep {found}; this one is {name}. Choose a folder that is new, or that of this sweep.")
    out.mkdir(parents=True, exist_ok=True)
