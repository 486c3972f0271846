"""Which flipped images are shown: those on which twin and engine differ most plainly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.outcomes import paired
from reports.run import NOISE_SOURCE, Run

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 12


@dataclass(frozen=True)
class Flip:
    """An attacked image that exactly one of twin and engine has right, both being right when it is clean.

    Predictions are class numbers; `answers` are those of every engine that was shown the set.
    """

    index: int
    engine: str
    source: str
    target: str
    attack: str
    eps: str
    label: int
    twin_prediction: int
    engine_prediction: int
    answers: Mapping[str, int]


def chosen(run: Run) -> tuple[list[Flip], int]:
    """At most `SHOWN` flips, each image once, engine fooled before twin fooled; and how many there are in all. Noise is no attack."""
    rows = paired(run)
    rows = rows[rows["source"] != NOISE_SOURCE]
    rows = rows[rows["twin_clean"] & rows["engine_clean"] & (rows["twin_right"] != rows["engine_right"])]
    rows = rows.assign(width=(rows["twin_margin"] - rows["engine_margin"]).abs())
    ordered = rows.sort_values(["engine_right", "width", "index"], ascending=[True, False, True], kind="stable")
    shown = ordered.drop_duplicates("index").head(SHOWN)
    columns = ["index", "engine", "source", "target", "attack", "eps", "label", "twin_prediction", "engine_prediction"]
    return [_flip(run.samples, *row) for row in shown[columns].to_numpy(dtype=object)], len(rows)


def _flip(samples: pd.DataFrame, index: int, engine: str, source: str, target: str, attack: str, eps: str, *classes: int) -> Flip:
    """The flip with what every engine says to that image of that set."""
    here = samples[samples["index"] == index]
    for column, value in (("source", source), ("target", target), ("attack", attack), ("eps", eps)):
        here = here[here[column] == value]
    label, twin, fooled = classes
    answers = dict(zip(here["engine"], here["engine_prediction"].astype(int), strict=True))
    return Flip(index, engine, source, target, attack, eps, label, twin, fooled, answers)
