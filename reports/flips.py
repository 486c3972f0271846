"""Which flipped images are shown: those on which twin and engine differ most plainly."""

from __future__ import annotations

from dataclasses import dataclass

from reports.outcomes import paired
from reports.run import NOISE_SOURCE, Run

SHOWN = 12


@dataclass(frozen=True)
class Flip:
    """An attacked image that exactly one of twin and engine has right, both being right when it is clean. Predictions are class numbers."""

    index: int
    engine: str
    source: str
    target: str
    attack: str
    eps: str
    label: int
    twin_prediction: int
    engine_prediction: int


def chosen(run: Run) -> tuple[list[Flip], int]:
    """At most `SHOWN` flips, each image once, engine fooled before twin fooled; and how many there are in all. Noise is no attack."""
    rows = paired(run)
    rows = rows[rows["source"] != NOISE_SOURCE]
    rows = rows[rows["twin_clean"] & rows["engine_clean"] & (rows["twin_right"] != rows["engine_right"])]
    rows = rows.assign(width=(rows["twin_margin"] - rows["engine_margin"]).abs())
    ordered = rows.sort_values(["engine_right", "width", "index"], ascending=[True, False, True], kind="stable")
    shown = ordered.drop_duplicates("index").head(SHOWN)
    flips = [
        Flip(index, engine, source, target, attack, eps, label, twin, right)
        for index, engine, source, target, attack, eps, label, twin, right in shown[
            ["index", "engine", "source", "target", "attack", "eps", "label", "twin_prediction", "engine_prediction"]
        ].to_numpy(dtype=object)
    ]
    return flips, len(rows)
