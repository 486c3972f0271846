"""Whether the figures may be believed: gates with their remedies, and what the measurement says against itself."""

from __future__ import annotations

from typing import Literal

from harness.records import Gate
from reports.elements import Cell, Section, Table, Tone, table
from reports.format import NONE, speaks_of_time
from reports.run import Run

Result = Literal["failed", "undecided", "passed", "not tested"]
TITLES: dict[Result, str] = {
    "failed": "Gates that failed",
    "undecided": "Gates left undecided",
    "passed": "Gates that passed",
    "not tested": "Gates that were not tested",
}
TONES: dict[Result, Tone] = {"failed": "bad", "undecided": "warn", "passed": "good", "not tested": "muted"}


def section(run: Run) -> Section:
    """Gates, failed ones first, then warnings."""
    record = run.record
    groups = {name: [gate for gate in record.gates if result(gate) == name] for name in TITLES}
    counts = ", ".join(f"{len(gates)} {name}" for name, gates in groups.items())
    paragraphs = [f"{counts}. A failed gate that guards the verdict makes it UNTRUSTED; the others withhold a label or a figure."]
    if not record.gates:
        paragraphs = ["No gate was tested: nothing here vouches for the figures."]
    tables = [_table(name, gates) for name, gates in groups.items() if gates]
    warnings = [(e.name, text) for e in record.engines for text in e.warnings if not (record.device.emulated and speaks_of_time(text))]
    if warnings:
        tables.append(table("Warnings of the measurement", ("Engine", "Warning"), warnings))
    elif record.engines:
        paragraphs.append("The measurement has no warning to give.")
    return Section("gates", "Gates and warnings", paragraphs, tables)


def result(gate: Gate) -> Result:
    """What became of it; undecided: it was tested and chance, or what there was to look at, left it open."""
    if gate.passed is None:
        return "not tested" if gate.observed.startswith("not tested") else "undecided"
    return "passed" if gate.passed else "failed"


def _table(name: Result, gates: list[Gate]) -> Table:
    """The gates of one result; a remedy stands only where something is amiss."""
    amiss = name in ("failed", "undecided")
    columns = ("Gate", "Engine", "Observed", "Limit", "Remedy")
    rows = [(Cell(g.name, TONES[name]), g.engine or "the whole run", g.observed, g.limit, g.remedy if amiss else NONE) for g in gates]
    return table(TITLES[name], columns, rows, fold=not amiss)
