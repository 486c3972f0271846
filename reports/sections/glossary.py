"""The glossary: every word of the report that is not plain English."""

from __future__ import annotations

from reports.elements import Cell, Section, table
from reports.glossary import TERMS
from reports.run import Run


def section(run: Run | None = None) -> Section:
    """All terms in the order of the alphabet; the same of every run, and of several."""
    del run
    terms = sorted(TERMS, key=lambda term: term.word.lower())
    rows = [(Cell(term.word, anchor=term.anchor), term.meaning) for term in terms]
    return Section("glossary", "Glossary", [], [table("Words", ("Word", "Meaning"), rows)])
