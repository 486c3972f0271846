"""Who had which image right: the per-image facts of `samples.parquet`, worst case over the attacks."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.records import Interval, in_claim
from reports.run import GATE_SOURCE, NOISE_SOURCE, Run

if TYPE_CHECKING:
    import pandas as pd

TWIN = "twin"
CLEAN = "clean"
DISTANCES = 64


@dataclass(frozen=True)
class WorstCase:
    """Twin and engine on the same images; one is right where the model has it right clean and under every L-inf attack of that radius.

    Counts of images. `attacks` is how many sets were replayed (0: clean images only).
    """

    engine: str
    eps: Fraction
    attacks: int
    both_right: int
    twin_only: int
    engine_only: int
    both_wrong: int

    @property
    def n(self) -> int:
        """Images."""
        return self.both_right + self.twin_only + self.engine_only + self.both_wrong

    @property
    def twin(self) -> int:
        """Images the twin has right."""
        return self.both_right + self.twin_only

    @property
    def right(self) -> int:
        """Images the engine has right."""
        return self.both_right + self.engine_only


def wilson(correct: int, n: int) -> Interval:
    """The 95 % Wilson score interval of a share (Wilson 1927), as scipy computes it."""
    from scipy.stats import binomtest

    low, high = binomtest(correct, n).proportion_ci(method="wilson")
    return float(low), float(high)


def paired(run: Run) -> pd.DataFrame:
    """The adversarial rows of `samples.parquet`, with more columns: `twin_clean`, `engine_clean`, `norm`, and right on both the clean
    image and x': `twin_right`, `engine_right`.

    Left out: rows whose image has no clean row (whether it was right cannot be said) and the sets made for gates.
    """
    samples = run.samples
    right = samples.assign(
        twin_clean=samples["twin_prediction"] == samples["label"],
        engine_clean=samples["engine_prediction"] == samples["label"],
    )
    clean = right.loc[right["attack"] == CLEAN, ["index", "engine", "twin_clean", "engine_clean"]]
    attacked = (samples["attack"] != CLEAN) & (samples["source"] != GATE_SOURCE)
    rows = samples.loc[attacked].merge(clean, on=["index", "engine"])
    keys = zip(rows["source"], rows["attack"], rows["eps"], strict=True)
    return rows.assign(
        twin_right=rows["twin_clean"] & (rows["twin_prediction"] == rows["label"]),
        engine_right=rows["engine_clean"] & (rows["engine_prediction"] == rows["label"]),
        norm=[run.norm(*key) for key in keys],
    )


def worst_cases(run: Run) -> list[WorstCase]:
    """The worst case per engine and L-inf radius over the sets of its claim, in the record's order of engines; radius 0 is the attacked
    images when clean."""
    rows = paired(run)
    rows = rows[(rows["norm"] == "Linf") & (rows["source"] != NOISE_SOURCE)]
    found = []
    for engine in dict.fromkeys(e.flavour for e in run.record.engines):
        aimed = np.array([in_claim(source, engine) for source in rows["source"]], dtype=bool)
        own = rows[(rows["engine"] == engine) & aimed]
        if own.empty:
            continue
        found.append(_tally(engine, Fraction(0), 0, own.groupby("index")[["twin_clean", "engine_clean"]].min()))
        radii = {text: Fraction(text) for text in own["eps"].unique()}
        for text in sorted(radii, key=lambda t: radii[t]):
            here = own[own["eps"] == text]
            sets = len(here[["source", "attack"]].drop_duplicates())
            found.append(_tally(engine, radii[text], sets, here.groupby("index")[["twin_right", "engine_right"]].min()))
    return found


def distance_curves(run: Run) -> dict[str, tuple[NDArray[np.float64], NDArray[np.int64], int]]:
    """For minimum-norm L2 attacks: model -> (radii, images still right at each, n).

    An image falls at the distance of the nearest stored image that fools the model; at 0 where the model has it wrong when clean.
    """
    rows = paired(run)
    rows = rows[rows["norm"] == "L2"]
    curves = {}
    for model in [TWIN, *dict.fromkeys(engine.flavour for engine in run.record.engines)]:
        own = rows if model == TWIN else rows[rows["engine"] == model]
        if own.empty:
            continue
        side = "twin" if model == TWIN else "engine"
        falls = own["l2"].where(own[f"{side}_clean"], 0.0).where(~own[f"{side}_right"], np.inf).groupby(own["index"]).min().to_numpy()
        finite = falls[np.isfinite(falls)]
        radii = np.linspace(0, float(finite.max()) if finite.size else 1.0, DISTANCES)
        curves[model] = radii, (falls[:, None] > radii).sum(axis=0), len(falls)
    return curves


def _tally(engine: str, eps: Fraction, attacks: int, survivors: pd.DataFrame) -> WorstCase:
    twin, right = (survivors[name].to_numpy(dtype=bool) for name in survivors.columns)
    both, neither = int((twin & right).sum()), int((~twin & ~right).sum())
    return WorstCase(engine, eps, attacks, both, int((twin & ~right).sum()), int((~twin & right).sum()), neither)
