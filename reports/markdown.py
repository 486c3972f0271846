"""The report as Markdown: the same sections and tables, no figures; readable in a terminal and on a code host."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from reports.elements import Cell, Listing, Section, Table
from reports.run import Run
from reports.sections import sections
from reports.title import head

ON_PAPER = ("claims", "setting", "signature")  # of the sheet to be signed; a pull request has model and device in its title
FOLDED = "Device, decision, evidence, how to repeat it"
_SPECIAL = re.compile(r"[\\`*|]|(?<!\w)_|_(?!\w)|\](?=\()|~~")


def escape(text: str) -> str:
    """Text from outside as Markdown that shows it literally, in a table cell too. Brackets of an interval stay readable."""
    entities = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(lambda match: f"\\{match[0]}", entities)


def to_markdown(run: Run) -> str:
    """The whole report of a run: what decides stands open, fit for a pull request; the evidence is folded."""
    title, subtitle, tag = head(run)
    every = sections(run)
    first = [section for section in every if section.sheet and section.key not in ON_PAPER]
    return document(title, subtitle, first, tag, [one for one in every if one not in first])


def document(title: str, subtitle: str, sections: Iterable[Section], tag: str = "", folded: Sequence[Section] = ()) -> str:
    """Sections under a title, and those that open at a click where Markdown is rendered; `tag` stands beside every heading."""
    mark = f" ({tag})" if tag else ""
    parts = [f"# {escape(title)}{mark}", escape(subtitle), *(_section(section, mark) for section in sections)]
    if folded:  # a blank line must stand between HTML and Markdown
        parts += [f"<details><summary>{FOLDED}{mark}</summary>", *(_section(section, mark) for section in folded), "</details>"]
    return "\n\n".join(parts) + "\n"


def _section(section: Section, mark: str) -> str:
    paragraphs = [escape(text) for text in section.paragraphs]
    if section.key == "verdict":
        paragraphs[0] = f"**{paragraphs[0]}**"
    code = [_fenced(section.code)] if section.code else []
    tables = [_rows(section.tables[0])] if section.sheet and len(section.tables) == 1 else map(_table, section.tables)
    return "\n\n".join([f"## {section.title}{mark}", *paragraphs, *map(_list, section.lists), *tables, *code])


def _list(listing: Listing) -> str:
    """Points under a bold line, where they have a title."""
    head = [f"**{escape(listing.title)}**", ""] if listing.title else []
    return "\n".join([*head, *(f"- **{escape(item.about)}**" + (f": {escape(item.text)}" if item.text else "") for item in listing.items)])


def _table(table: Table) -> str:
    return f"### {escape(table.title)}\n\n{_rows(table)}"


def _rows(table: Table) -> str:
    """A table without its title, which says no more than its section's where it is the only one."""
    lines = [_row(map(escape, table.columns)), _row("--:" if i in table.numbers else "---" for i in range(len(table.columns)))]
    lines += [_row(map(_cell, row)) for row in table.rows]
    note = ["", f"_{escape(table.note)}_"] if table.note else []
    return "\n".join([*lines, *note])


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    return f"**{text}**" if cell.tone in ("bad", "strong") and text else text


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _fenced(code: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{code}\n{fence}"
