"""The report as Markdown: the same sections and tables, no figures; readable in a terminal and on a code host."""

from __future__ import annotations

import re
from collections.abc import Iterable

from reports.elements import Cell, Listing, Section, Table
from reports.run import Run
from reports.sections import sections
from reports.sections.verdict import tag
from reports.title import subtitle, title

_SPECIAL = re.compile(r"[\\`*|]|(?<!\w)_|_(?!\w)|\](?=\()|~~")


def escape(text: str) -> str:
    """Text from outside as Markdown that shows it literally, in a table cell too. Brackets of an interval stay readable."""
    entities = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(lambda match: f"\\{match[0]}", entities)


def to_markdown(run: Run) -> str:
    """The whole report of a run."""
    return document(title(run.record), subtitle(run.record), sections(run), tag(run.record))


def document(title: str, subtitle: str, sections: Iterable[Section], tag: str = "") -> str:
    """Sections under a title; `tag` stands beside every heading."""
    mark = f" ({tag})" if tag else ""
    return "\n\n".join([f"# {escape(title)}{mark}", escape(subtitle), *(_section(section, mark) for section in sections)]) + "\n"


def _section(section: Section, mark: str) -> str:
    paragraphs = [escape(text) for text in section.paragraphs]
    if section.key == "verdict":
        paragraphs[0] = f"**{paragraphs[0]}**"
    code = [_fenced(section.code)] if section.code else []
    return "\n\n".join([f"## {section.title}{mark}", *paragraphs, *map(_list, section.lists), *map(_table, section.tables), *code])


def _list(listing: Listing) -> str:
    """Points under a bold line, where they have a title."""
    head = [f"**{escape(listing.title)}**", ""] if listing.title else []
    return "\n".join([*head, *(f"- **{escape(item.about)}**" + (f": {escape(item.text)}" if item.text else "") for item in listing.items)])


def _table(table: Table) -> str:
    lines = [_row(map(escape, table.columns)), _row("--:" if i in table.numbers else "---" for i in range(len(table.columns)))]
    lines += [_row(map(_cell, row)) for row in table.rows]
    note = ["", f"_{escape(table.note)}_"] if table.note else []
    return "\n".join([f"### {table.title}", "", *lines, *note])


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    return f"**{text}**" if cell.tone in ("bad", "strong") and text else text


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _fenced(code: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{code}\n{fence}"
