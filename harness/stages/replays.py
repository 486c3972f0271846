"""S6: who is fooled by what was made for somebody else, from the answers alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.answers import TWIN, Column, Matrix
from harness.audit.statistics import share
from harness.records import Replay
from harness.sources import SOURCES, aimed


def replays(matrix: Matrix, engines: Sequence[str], columns: Sequence[Column]) -> Iterator[Replay]:
    """The twin and every engine against every other of them.

    Args:
        matrix: everyone's answers.
        engines: those that answered.
        columns: the sets that count, of one norm and radius.
    """
    models = [TWIN, *engines]
    for made_for in models:
        own = [column for column in columns if _is_for(column, made_for)]
        for shown_to in models:
            if shown_to != made_for and own:
                yield _replay(matrix, made_for, shown_to, own)


def _is_for(column: Column, model: str) -> bool:
    record = column.record
    return record.target == TWIN if model == TWIN else record.target != TWIN and aimed(SOURCES[record.source], record.target, model)


def _replay(matrix: Matrix, made_for: str, shown_to: str, own: Sequence[Column]) -> Replay:
    fooled, both = (np.zeros(len(matrix.labels), np.bool_) for _ in range(2))
    for column in own:
        first = ~matrix.right(made_for, column)
        fooled[column.index] |= first
        both[column.index] |= first & ~matrix.right(shown_to, column)
    counted = fooled & matrix.right(made_for) & matrix.right(shown_to)
    n = int(counted.sum())
    return Replay(made_for=made_for, shown_to=shown_to, fooled=share(int((both & counted).sum()), n) if n else None)
