"""The chapters of a report in reading order, verdict first. One file per chapter; no format is known here."""

from __future__ import annotations

from reports.run import Run
from reports.sections import accuracy, device, engines, flipped, gates, provenance, robustness, scope, verdict
from reports.table import Section

BUILDERS = (
    verdict.section,
    device.section,
    engines.section,
    accuracy.section,
    robustness.section,
    flipped.section,
    gates.section,
    scope.section,
)


def sections(run: Run) -> list[Section]:
    """Every section of a run's report."""
    return [build(run) for build in (*BUILDERS, provenance.section, provenance.repeat)]
