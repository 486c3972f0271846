"""`samples.parquet`: one row per image, set and engine, from which every count of the record can be made again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from harness.answers import TWIN, Column, Images, Matrix
from harness.attacks.grid import distances
from harness.attacks.parts import load_set
from harness.models.predictions import margins

SAMPLES = "samples.parquet"
CLEAN = "clean"


def save(matrix: Matrix, engines: Iterable[str], images: Images, folder: Path) -> None:
    """Write the table, whole or not at all, set by set. Where every engine failed there is nothing to write.

    Args:
        matrix: everyone's answers.
        engines: those that answered, by name.
        images: all clean images, uint8 (n, h, w, c).
        folder: of the run.
    """
    engines = list(engines)
    if not engines:
        return
    temporary = folder / f"{SAMPLES}.tmp"
    writer = None
    for rows in _parts(matrix, engines, images, folder):
        table = pa.Table.from_pandas(rows, preserve_index=False)
        writer = writer or pq.ParquetWriter(temporary, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()
        temporary.replace(folder / SAMPLES)


def _parts(matrix: Matrix, engines: list[str], images: Images, folder: Path) -> Iterator[pd.DataFrame]:
    for engine in engines:
        yield _rows(matrix, None, engine, None)
    for column in matrix.columns:
        adversarial, _, _ = load_set(folder / column.record.file, column.record.set_sha256)
        linf, l2 = distances(images, adversarial, column.index)
        moved = (linf / 255).astype(np.float32), l2.astype(np.float32)
        for engine in engines:
            yield _rows(matrix, column, engine, moved)


def _rows(
    matrix: Matrix, column: Column | None, engine: str, moved: tuple[NDArray[np.float32], NDArray[np.float32]] | None
) -> pd.DataFrame:
    """The rows of one set on one engine; of the clean images where there is no column."""
    index = np.arange(len(matrix.labels)) if column is None else column.index
    labels = matrix.labels[index]
    twin, answers = matrix.logits(TWIN, column), matrix.logits(engine, column)
    record = None if column is None else column.record
    nothing = np.zeros(len(index), np.float32)
    linf, l2 = moved or (nothing, nothing)
    return pd.DataFrame(
        {
            "index": index.astype(np.int32),
            "label": labels.astype(np.int32),
            "source": CLEAN if record is None else record.source,
            "target": CLEAN if record is None else record.target,
            "attack": CLEAN if record is None else record.name,
            "eps": "0" if record is None else record.eps_exact,
            "engine": engine,
            "twin_prediction": twin.argmax(1).astype(np.int32),
            "engine_prediction": answers.argmax(1).astype(np.int32),
            "twin_margin": margins(twin, labels),
            "engine_margin": margins(answers, labels),
            "linf": linf,
            "l2": l2,
        }
    )
