"""The chapters of a report in reading order, verdict first. One file per chapter; no format is known here."""

from __future__ import annotations

from dataclasses import replace

from reports.format import clean
from reports.run import Run
from reports.sections import accuracy, device, engines, flipped, gates, provenance, robustness, scope, telemetry, verdict
from reports.table import Section

BUILDERS = (
    verdict.section,
    device.section,
    engines.section,
    telemetry.section,
    accuracy.section,
    robustness.section,
    flipped.section,
    gates.section,
    scope.section,
    provenance.section,
    provenance.repeat,
)


def sections(run: Run) -> list[Section]:
    """Every section of a run's report, its paragraphs cleaned as its tables are."""
    built = [build(run) for build in BUILDERS]
    return [replace(section, paragraphs=[clean(text) for text in section.paragraphs]) for section in built]
