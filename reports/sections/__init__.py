"""The chapters of a report in reading order, verdict first. One file per chapter; no format is known here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

from reports.elements import Section
from reports.format import clean
from reports.run import Run

# name -> `module:function`, `(Run) -> Section`, imported at the first use. A new chapter is one file and one line. None: nothing to say.
SECTIONS: dict[str, str] = {
    "verdict": "reports.sections.verdict:section",
    "requirements": "reports.sections.requirements:section",
    "device": "reports.sections.device:section",
    "engines": "reports.sections.engines:section",
    "telemetry": "reports.sections.telemetry:section",
    "accuracy": "reports.sections.accuracy:section",
    "robustness": "reports.sections.robustness:section",
    "flipped": "reports.sections.flipped:section",
    "gates": "reports.sections.gates:section",
    "scope": "reports.sections.scope:section",
    "provenance": "reports.sections.provenance:section",
    "repeat": "reports.sections.provenance:repeat",
}


def sections(run: Run) -> list[Section]:
    """Every section of a run's report, its paragraphs cleaned as its tables are."""
    built = [_builder(path)(run) for path in SECTIONS.values()]
    return [replace(section, paragraphs=[clean(text) for text in section.paragraphs]) for section in built if section is not None]


def _builder(path: str) -> Callable[[Run], Section | None]:
    module, _, name = path.partition(":")
    builder: Callable[[Run], Section | None] = getattr(import_module(module), name)
    return builder
