"""What a report says, before any format: sections of paragraphs and tables. Every format renders the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from reports.format import clean

Tone = Literal["", "strong", "good", "warn", "bad", "muted", "code"]


@dataclass(frozen=True)
class Cell:
    """One fact as text. `tone` is how it should look; `heat` in [0, 1] shades it where the format can."""

    text: str
    tone: Tone = ""
    heat: float | None = None


@dataclass(frozen=True)
class Table:
    """Rows under headed columns; the first column names the row. `numbers`: the columns that are aligned to the right.

    Texts may be plain strings: they are cleaned of control characters and become cells.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[Cell, ...]]
    numbers: frozenset[int] = frozenset()
    note: str = ""


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str | Cell]], *, numbers: Iterable[int] = (), note: str = ""
) -> Table:
    """A `Table` of cleaned cells.

    Raises:
        ValueError: a row has another number of cells than there are columns.
    """
    cells = [tuple(Cell(clean(c.text), c.tone, c.heat) if isinstance(c, Cell) else Cell(clean(c)) for c in row) for row in rows]
    for row in cells:
        if len(row) != len(columns):
            raise ValueError(f"table '{title}': a row has {len(row)} cells for {len(columns)} columns")
    return Table(title, tuple(columns), cells, frozenset(numbers), note)


@dataclass(frozen=True)
class Section:
    """A chapter of the report. `key` is its anchor and where a format attaches its figures; `code` is set as typed."""

    key: str
    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = field(default_factory=list)
    code: str = ""
