"""What a report says, before any format: sections of paragraphs and tables. Every format renders the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from reports.format import NONE, clean

Tone = Literal["", "strong", "good", "warn", "bad", "muted", "code"]


@dataclass(frozen=True)
class Cell:
    """One fact as text. `tone` is how it should look; `heat` in [0, 1] shades it where the format can; `anchor` can be linked to."""

    text: str
    tone: Tone = ""
    heat: float | None = None
    anchor: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under headed columns; the first column names the row. `numbers`: the columns that are aligned to the right.

    `fold`: a long table that few readers need; it opens at a click, and on paper.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[Cell, ...]]
    numbers: frozenset[int] = frozenset()
    note: str = ""
    fold: bool = False


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str | Cell]],
    *,
    numbers: Iterable[int] = (),
    note: str = "",
    fold: bool = False,
) -> Table:
    """A `Table` of cells. Texts may be plain strings; all are cleaned of control characters. A column that knows nothing is left out.

    Raises:
        ValueError: a row has another number of cells than there are columns.
    """
    cells = [tuple(replace(c, text=clean(c.text)) if isinstance(c, Cell) else Cell(clean(c)) for c in row) for row in rows]
    for row in cells:
        if len(row) != len(columns):
            raise ValueError(f"table '{title}': a row has {len(row)} cells for {len(columns)} columns")
    known = [i for i in range(len(columns)) if i == 0 or not cells or any(row[i].text != NONE for row in cells)]
    right = frozenset(known.index(i) for i in numbers if i in known)
    return Table(title, [columns[i] for i in known], [tuple(row[i] for i in known) for row in cells], right, note, fold)


@dataclass(frozen=True)
class Item:
    """One point of a list: what it is about, and what there is to say."""

    about: str
    text: str = ""
    tone: Tone = "strong"


@dataclass(frozen=True)
class Listing:
    """Points under a heading."""

    title: str
    items: Sequence[Item]


@dataclass(frozen=True)
class Section:
    """A chapter of the report. `key` is its anchor and where a format attaches its figures; `code` is set as typed.

    `sheet`: it belongs to the first two pages, on which a reviewer signs. `span`: how many of the sheet's three columns it takes.
    """

    key: str
    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = field(default_factory=list)
    code: str = ""
    lists: Sequence[Listing] = ()
    sheet: bool = False
    span: int = 3
