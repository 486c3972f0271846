"""The tables of a run (`reports.tables`) as CSV and as Parquet, a file each."""

from __future__ import annotations

import io
from dataclasses import fields
from typing import TYPE_CHECKING

from reports.run import Run
from reports.tables import COLUMNS, load_run

if TYPE_CHECKING:
    import pandas as pd


def to_csv(run: Run) -> dict[str, str | bytes]:
    """`tables/NAME.csv` for every table but the raw calls and samples, which are long: RFC 4180, UTF-8, a header line; an empty field is
    a figure that is not known.
    """
    short = {name: frame for name, frame in _frames(run).items() if name not in ("calls", "samples")}
    return {f"tables/{name}.csv": frame.to_csv(index=False, lineterminator="\n") for name, frame in short.items()}


def to_parquet(run: Run) -> dict[str, str | bytes]:
    """`tables/NAME.parquet` for every table, the raw calls and samples too."""
    return {f"tables/{name}.parquet": _parquet(name, frame) for name, frame in _frames(run).items()}


def _frames(run: Run) -> dict[str, pd.DataFrame]:
    tables = load_run(run.folder)
    return {field.name: getattr(tables, field.name) for field in fields(tables) if field.name in COLUMNS}


def _parquet(name: str, frame: pd.DataFrame) -> bytes:
    stream = io.BytesIO()
    typed = frame if name != "requirements" else frame.astype(dict.fromkeys(("limit", "observed"), "string"))
    typed.to_parquet(stream, index=False)
    return stream.getvalue()
