"""The chapters of a report in reading order, verdict first. One file per chapter; no format is known here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

from reports.elements import Item, Listing, Section
from reports.format import clean
from reports.run import Run

# name -> `module:function`, `(Run) -> Section`, imported at the first use. A new chapter is one file and one line. None: nothing to say.
# First what a reviewer signs (`Section.sheet`), then the evidence.
SECTIONS: dict[str, str] = {
    "verdict": "reports.sections.verdict:section",
    "requirements": "reports.sections.requirements:section",
    "numbers": "reports.sections.numbers:section",
    "scope": "reports.sections.scope:section",
    "setting": "reports.sections.setting:section",
    "signature": "reports.sections.signature:section",
    "claims": "reports.sections.claims:section",
    "requirements-in-full": "reports.sections.requirements:in_full",
    "engines": "reports.sections.engines:section",
    "choice": "reports.sections.choice:section",
    "telemetry": "reports.sections.telemetry:section",
    "robustness": "reports.sections.robustness:section",
    "cascade": "reports.sections.cascade:section",
    "decomposition": "reports.sections.decomposition:section",
    "flips": "reports.sections.flips:section",
    "flipped": "reports.sections.flipped:section",
    "gates": "reports.sections.gates:section",
    "device": "reports.sections.device:section",
    "provenance": "reports.sections.provenance:section",
    "repeat": "reports.sections.provenance:repeat",
    "standards": "reports.sections.standards:section",
    "glossary": "reports.sections.glossary:section",
}


def sections(run: Run) -> list[Section]:
    """Every section of a run's report, its texts cleaned as its tables are. One whose files are damaged says so instead.

    The verdict comes first and is built last: it names what is missing elsewhere.
    """
    built = {name: _built(run, name, path) for name, path in reversed(SECTIONS.items())}
    return [_cleaned(section) for section in reversed(built.values()) if section is not None]


def _built(run: Run, name: str, path: str) -> Section | None:
    title = f"{name.capitalize()}: not shown"
    instead: Section | None = Section(
        name, title, ["What the chapter is drawn from is damaged, or of a newer version; the verdict's list says what."]
    )
    return run.attempt(name, lambda: _builder(path)(run), instead)


def _cleaned(section: Section) -> Section:
    lists = [Listing(one.title, [Item(clean(i.about), clean(i.text), i.tone) for i in one.items]) for one in section.lists]
    return replace(section, paragraphs=[clean(text) for text in section.paragraphs], lists=lists)


def _builder(path: str) -> Callable[[Run], Section | None]:
    module, _, name = path.partition(":")
    builder: Callable[[Run], Section | None] = getattr(import_module(module), name)
    return builder
