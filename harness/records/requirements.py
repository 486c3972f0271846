"""What a run was held against."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from harness.records.parts import Part


class Outcome(StrEnum):
    """The answer to one requirement."""

    PASS = "PASS"  # noqa: S105 - no password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_MEASURED = "NOT MEASURED"


class Requirement(Part):
    """One line of a requirements file, and whether the run meets it. Figures are in `unit`; shares and points are of 1."""

    name: str = Field(description="what is required, such as 'latency p99, batch 1'")
    kind: str = Field(description="its key in the file")
    engine: str | None = Field(description="None: it concerns the whole run")
    line: int = Field(description="of the file")
    side: Literal["at_most", "at_least", "all_of", "may_fail", "real"] = Field(description="how the figure must stand to the limit")
    unit: Literal["ms", "B", "images/s", "mJ", "share", "points", "count", "names", "truth"]
    limit: float | bool | list[str]
    observed: float | bool | list[str] | None
    interval: tuple[float | None, float | None] | None = Field(
        description="two one-sided bounds: the one that PASS needs at `Qualification.level`, the other at its confidence. None "
        "as a whole: one reading without sampling error; None as a bound: too few values to have it"
    )
    outcome: Outcome
    reason: str = Field(description="why it is undecided or not measured, and what would decide it; else what to know, or nothing")


class Qualification(Part):
    """The requirements file that a run was held against, and the rule for all its rows."""

    name: str
    sha256: str
    confidence: float = Field(description="that no row passes unjustly, over all rows together")
    sampled: int = Field(description="rows whose figure has a sampling error: they share what the confidence leaves")
    level: float = Field(description="1 - (1 - confidence) / sampled: of the one-sided bound with which a row passes (Bonferroni)")
