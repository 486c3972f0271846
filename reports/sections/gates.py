"""Whether the figures may be believed: gates with their remedies, and what the measurement says against itself."""

from __future__ import annotations

from harness.records import Gate
from reports.elements import Cell, Section, table
from reports.format import NONE, speaks_of_time
from reports.run import Run

RESULTS = {True: Cell("passed", "good"), False: Cell("failed", "bad"), None: Cell("not tested", "muted")}
UNDECIDED = Cell("undecided", "warn")


def section(run: Run) -> Section:
    """Gates, failed ones first, then warnings."""
    record = run.record
    failed = sum(gate.passed is False for gate in record.gates)
    left_open = sum(undecided(gate) for gate in record.gates)
    untested = sum(gate.passed is None for gate in record.gates) - left_open
    passed = len(record.gates) - failed - untested - left_open
    paragraphs = [
        f"Gates: {passed} passed, {failed} failed, {left_open} undecided, {untested} not tested. "
        "A failed gate that guards the verdict makes it UNTRUSTED; the others withhold a label or a figure."
    ]
    if not record.gates:
        paragraphs = ["No gate was tested: nothing here vouches for the figures."]
    order = sorted(record.gates, key=lambda gate: (gate.passed is not False, gate.passed is None))
    tables = [table("Gates", ("Gate", "Engine", "Result", "Observed", "Limit", "Remedy"), map(_row, order))] if record.gates else []
    warnings = [(e.name, text) for e in record.engines for text in e.warnings if not (record.device.emulated and speaks_of_time(text))]
    if warnings:
        tables.append(table("Warnings of the measurement", ("Engine", "Warning"), warnings))
    elif record.engines:
        paragraphs.append("The measurement has no warning to give.")
    return Section("gates", "Gates and warnings", paragraphs, tables)


def undecided(gate: Gate) -> bool:
    """Whether it was tested and chance, or what there was to look at, left it open."""
    return gate.passed is None and not gate.observed.startswith("not tested")


def _row(gate: Gate) -> tuple[str | Cell, ...]:
    return (
        gate.name,
        gate.engine or "all",
        UNDECIDED if undecided(gate) else RESULTS[gate.passed],
        gate.observed,
        gate.limit,
        gate.remedy if gate.passed is False or undecided(gate) else NONE,
    )
