"""The tables of a run (`reports.tables`) as CSV and as Parquet, a file each."""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING

from reports.run import Run
from reports.tables import COLUMNS, frame

if TYPE_CHECKING:
    import pandas as pd

LONG = ("calls", "samples")  # a row for each timed call, and for each image and engine
COUNTS = ("n_required", "clean_correct", "clean_n", "artefact_bytes", "peak_bytes", "device_bytes")  # that may not be known


def to_csv(run: Run) -> dict[str, str | bytes]:
    """`tables/NAME.csv` for every table but the long ones: RFC 4180, UTF-8, a header line; an empty field is a figure that is not known."""
    short = [name for name in COLUMNS if name not in LONG]
    return {f"tables/{name}.csv": _counted(frame(run, name)).to_csv(index=False, lineterminator="\n") for name in short}


def _counted(table: pd.DataFrame) -> pd.DataFrame:
    """The table with counts as whole numbers where some are not known: pandas makes fractions of them."""
    return table.astype({name: "Int64" for name in COUNTS if name in table and table[name].dtype == "float64"})


def to_parquet(run: Run) -> dict[str, str | bytes]:
    """`tables/NAME.parquet` for every table; one whose raw file is damaged is left out, and the fault is kept with the run."""
    found = {name: run.attempt(f"tables/{name}.parquet", partial(frame, run, name), None) for name in COLUMNS}
    return {f"tables/{name}.parquet": _parquet(name, one) for name, one in found.items() if one is not None}


def _parquet(name: str, table: pd.DataFrame) -> bytes:
    stream = io.BytesIO()
    typed = table if name != "requirements" else table.astype(dict.fromkeys(("limit", "observed"), "string"))
    typed.to_parquet(stream, index=False)
    return stream.getvalue()
