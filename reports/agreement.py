"""Whether the answers in a run folder are those that its record counted: files that were swapped or edited change figures unseen."""

from __future__ import annotations

from pathlib import Path

from harness.answers import TWIN, Column, Matrix
from harness.errors import UntrustedError
from harness.records import RunRecord


def check_counts(matrix: Matrix, record: RunRecord, folder: Path) -> None:
    """Count again what the record says of each engine: right on the clean images, and with the twin under each set. What has no answers
    here is left out.

    Raises:
        UntrustedError: a count is another one.
    """
    for one in record.engines:
        if one.clean is not None and matrix.has(one.name):
            right = int(matrix.right(one.name).sum())
            _same(folder, f"{one.name}, right on the clean images", (one.clean.correct,), (right,))
    columns = {_key(column): column for column in matrix.columns}
    for told in record.transfer:
        column = columns.get((told.source, told.target, told.attack, told.eps_exact))
        if column is None or not all(_answered(matrix, model, column) for model in (TWIN, told.engine)):
            continue
        twin, engine = (matrix.right(model)[column.index] & matrix.right(model, column) for model in (TWIN, told.engine))
        found = tuple(int(both.sum()) for both in (twin & engine, twin & ~engine, ~twin & engine))
        flips = told.flips
        what = f"twin and {told.engine} under {told.source} {told.attack} at {told.eps_exact}, right both, twin alone, engine alone"
        _same(folder, what, (flips.both_right, flips.twin_only, flips.engine_only), found)


def _key(column: Column) -> tuple[str, str, str, str]:
    record = column.record
    return record.source, record.target, record.name, record.eps_exact


def _answered(matrix: Matrix, model: str, column: Column) -> bool:
    return matrix.has(model) and matrix.answers.get(model, column.record.set_sha256) is not None


def _same(folder: Path, what: str, told: tuple[int, ...], found: tuple[int, ...]) -> None:
    if told != found:
        raise UntrustedError(
            f"{folder} was changed since the run: {what}: {', '.join(map(str, told))} in the record, {', '.join(map(str, found))} by the "
            "answers. Take the run folder as it was, or run again."
        )
