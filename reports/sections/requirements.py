"""Whether the run meets what was required of it, line by line."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from harness.records import Outcome, Qualification, Requirement
from reports.elements import Cell, Section, Table, Tone, table
from reports.format import NONE, digest, figure, percent, several
from reports.run import Run

OUTCOMES: dict[Outcome, Tone] = {Outcome.PASS: "good", Outcome.FAIL: "bad", Outcome.INCONCLUSIVE: "warn", Outcome.NOT_MEASURED: "warn"}
WORST_FIRST = (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.NOT_MEASURED, Outcome.PASS)
MOST_ROWS = 10
MOST_DIGITS = 5  # more than usual
ROUNDING = 1e-4  # of a limit, which 120 MB in MiB would else have without end
SIDES = {"at_most": "at most {}", "at_least": "at least {}", "all_of": "all of {}", "may_fail": "may fail: {}", "real": "{}"}


def section(run: Run) -> Section | None:
    """The rows that a reviewer must see, the worst first; nothing where no requirements were given."""
    record = run.record
    if record.qualification is None:
        return None
    ordered = sorted(record.requirements, key=lambda row: WORST_FIRST.index(row.outcome))
    left = ordered[MOST_ROWS:]
    more = f"{several(len(left), 'more row')} ({counts(left)}), the rule" if left else "The rule"
    note = f"{more} and what would decide stand under Requirements in full."
    shown = _table(f"Requirements of {record.qualification.name}", ordered[:MOST_ROWS], note)
    return Section("requirements", "Requirements", [f"{counts(record.requirements)}."], [shown], sheet=True)


def in_full(run: Run) -> Section | None:
    """Every row in the order of the file, the rule, and what would decide."""
    record = run.record
    if record.qualification is None:
        return None
    found = rows_tables(f"Requirements of {record.qualification.name}", record.requirements, record.qualification)
    return Section("requirements-in-full", "Requirements in full", [], found)


def rows_tables(title: str, requirements: Sequence[Requirement], qualification: Qualification) -> list[Table]:
    """The rows with the rule for all of them below, then what there is to know of those that have a reason."""
    reasons = [(row.name, _whose(row), row.reason) for row in requirements if row.reason]
    found = [_table(title, requirements, rule(qualification))]
    return found + ([table("What would decide, and what to know", ("Requirement", "Of", "What"), reasons)] if reasons else [])


def _table(title: str, requirements: Sequence[Requirement], note: str) -> Table:
    rows = [
        (row.name, _whose(row), Cell(row.outcome, OUTCOMES[row.outcome]), limit(row), reading(row), bounds(row)) for row in requirements
    ]
    return table(title, ("Requirement", "Of", "Result", "Limit", "Observed", "Bounds"), rows, numbers=(4, 5), note=note)


def _whose(row: Requirement) -> str:
    return row.engine or "the run"


def rule(qualification: Qualification) -> str:
    """How a row is decided, in words."""
    alpha, confidence = 1 - qualification.confidence, percent(qualification.confidence)
    shared = (
        f"Of the {several(qualification.sampled, 'row')} whose figure has a sampling error, one passes where its one-sided bound at "
        f"{100 * qualification.level:.4g} % is within the limit: so the chance that any of them passes unjustly is below "
        f"{100 * alpha:.3g} % (Bonferroni). A row fails where its other bound, at {confidence} alone, is beyond the limit. Between the two "
        "it is INCONCLUSIVE. "
        if qualification.sampled
        else ""
    )
    file = f" File: SHA-256 {digest(qualification.sha256)}." if qualification.sha256 else ""
    return f"{shared}Rows without bounds are one reading and compared as it is.{file}"


def limit(row: Requirement) -> str:
    """The limit in words, as it was asked for: `at most 20.0 ms`."""
    return SIDES[row.side].format(figure(row.limit, row.unit, _finer(row)))


def reading(row: Requirement) -> str:
    """The figure alone."""
    return figure(row.observed, row.unit, _finer(row))


def observed(row: Requirement) -> str:
    """The figure, with its bounds where it has some."""
    return f"{reading(row)} {bounds(row)}".removesuffix(f" {NONE}")


def bounds(row: Requirement) -> str:
    """Its interval, the unit told once: `[16.5, 24.4] ms`; a bound that too few values have is a dash."""
    if row.interval is None:
        return NONE
    texts = [figure(bound, row.unit, _finer(row)).partition(" ") for bound in row.interval]
    return f"[{', '.join(number for number, _, _ in texts)}] {max((unit for _, _, unit in texts), key=len)}".rstrip()


def _finer(row: Requirement) -> int:
    """How many digits more a row needs: its limit is to be read as it was asked for, and nothing else as equal to it that is not."""
    if not isinstance(row.limit, float) or row.unit == "count":
        return 0
    others = [value for value in (row.observed, *(row.interval or ())) if isinstance(value, float) and value != row.limit]
    exact = _number(figure(row.limit, row.unit, MOST_DIGITS))
    for finer in range(MOST_DIGITS):
        text = figure(row.limit, row.unit, finer)
        as_asked = math.isclose(_number(text), exact, rel_tol=ROUNDING)
        if as_asked and all(figure(value, row.unit, finer) != text for value in others):
            return finer
    return MOST_DIGITS


def _number(text: str) -> float:
    return float(text.partition(" ")[0].replace(",", "").replace("−", "-"))


def counts(rows: Sequence[Requirement]) -> str:
    """How many rows have which outcome."""
    found = Counter(row.outcome for row in rows)
    return ", ".join(f"{found[outcome]} {outcome}" for outcome in Outcome if found[outcome]) or "no requirement concerns this run"


def worst(rows: Sequence[Requirement]) -> Tone:
    """How all rows together should look."""
    tones = {OUTCOMES[row.outcome] for row in rows}
    return next(tone for tone in ("bad", "warn", "good") if tone in tones)
