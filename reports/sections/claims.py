"""How the claims were decided: the figures of each, and what stands beside the verdict without deciding it."""

from __future__ import annotations

from harness.records import Claim, RunRecord
from reports.elements import Cell, Section, Table, table
from reports.format import allowed, count, estimated, points, significant
from reports.run import Run
from reports.sections.verdict import TONES, called

COLUMNS = (
    "Engine", "Verdict", "ε", "Twin, worst case", "Engine, worst case", "Gap [bounds]", "Margin", "n", "n to decide", "p",
)  # fmt: skip


def section(run: Run) -> Section:
    """One row per claim; its pictures are those that a reviewer looks at first."""
    record = run.record
    if not record.claims:
        return Section("claims", "How it was decided", ["No claim was put to the test."], sheet=True)
    return Section("claims", "How it was decided", [], [_decided(record)], sheet=True)


def _decided(record: RunRecord) -> Table:
    needed = "n to decide: images needed at the disagreement seen. " if any(claim.n_required is not None for claim in record.claims) else ""
    return table(
        "Claims",
        COLUMNS,
        [
            (
                called(claim),
                Cell(claim.verdict, TONES[claim.verdict]),
                claim.eps_exact,
                estimated(claim.twin_robust),
                estimated(claim.engine_robust),
                gap(claim),
                allowed(claim.margin),
                count(claim.n),
                count(claim.n_required),
                significant(claim.p_value),
            )
            for claim in record.claims
        ],
        numbers=range(2, 10),
        note="Worst case: an image counts where the model has it right when clean and under every attack of that radius. Gap: twin less "
        f"engine, in percentage points, with one-sided 95 % bounds (Tango). {needed}p: of a gap at least as large as the margin, "
        "Holm-adjusted. Control: the float engine; undecided, it does not count.",
    )


def gap(claim: Claim) -> str:
    """The gap with its bounds: `+1.6 [−0.3, +4.1]`."""
    bounds = "" if claim.lower is None else f" [{points(claim.lower, claim.margin)}, {points(claim.upper, claim.margin)}]"
    return points(claim.gap, claim.margin) + bounds
