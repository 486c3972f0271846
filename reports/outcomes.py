"""Who had which image right, from the answers of a run (`harness.answers`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.answers import TWIN, Column, Right
from harness.records import AttackRecord, Claim, Interval, RunRecord
from harness.sources import deciding
from reports.run import GATE_SOURCE, Run

if TYPE_CHECKING:
    import pandas as pd

CLEAN = "clean"
DISTANCES = 64
LARGEST = Fraction(1)  # a ball that holds every image


@dataclass(frozen=True)
class WorstCase:
    """Twin and engine on the same images; one is right where the model has it right clean and under every L-inf attack up to that radius.

    Counts of images. `attacks` is how many sets of just that radius there are (0: clean images only).
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


def counting(record: RunRecord, claim: Claim) -> list[AttackRecord]:
    """The sets at a claim's radius that its worst case rests on."""
    resting = deciding((Column(attack, np.empty(0, np.int64)) for attack in record.attacks), claim.engine, Fraction(claim.eps_exact))
    return [c.record for c in resting if c.record.eps_exact == claim.eps_exact and c.record.source in claim.sources]


def attacks_of(record: RunRecord, claim: Claim) -> tuple[list[str], list[str]]:
    """The attacks that a claim's worst case is over, each with its source: those that met images, and those for which none was left."""
    sets = counting(record, claim)
    met = {f"{attack.source} {attack.name}" for attack in sets if attack.n}
    return sorted(met), sorted({f"{attack.source} {attack.name}" for attack in sets} - met)


def none_left(attacks: Sequence[str]) -> str:
    """A sentence about the attacks that met no image; nothing where there are none."""
    return f"No image was left for {', '.join(attacks)}." if attacks else ""


def wilson(correct: int, n: int) -> Interval:
    """The 95 % Wilson score interval of a share (Wilson 1927), as scipy computes it."""
    from scipy.stats import binomtest

    low, high = binomtest(correct, n).proportion_ci(method="wilson")
    return float(low), float(high)


def worst_cases(run: Run) -> list[WorstCase]:
    """The worst case per engine and L-inf radius, in the record's order of engines; radius 0 is the attacked images when clean.

    What a smaller radius breaks, a larger one contains, so a radius counts every set up to it.
    """
    matrix = run.matrix
    found = []
    for engine in answering(run):
        own = deciding(matrix.columns, engine, LARGEST)
        if not own:
            continue
        for eps in (Fraction(0), *sorted({column.eps for column in own})):
            columns = deciding(own, engine, eps)
            sides = (matrix.worst_case(TWIN, columns), matrix.worst_case(engine, columns))
            found.append(_tally(run.shown(engine), eps, sum(column.eps == eps for column in columns), *sides))
    return found


def answering(run: Run) -> list[str]:
    """The engines that answered to everything, by name, in the record's order."""
    return [engine.name for engine in run.raw.engines if engine.status == "ok" and engine.clean is not None]


def clean_right(run: Run) -> Right | None:
    """Which of all clean images the twin has right, bool (n,); None where nobody asked it."""
    return run.matrix.right(TWIN) if run.matrix.has(TWIN) else None


def distance_curves(run: Run) -> dict[str, tuple[NDArray[np.float64], NDArray[np.int64], int]]:
    """For minimum-norm L2 attacks: model -> (radii, images still right at each, n).

    An image falls at the distance of the nearest stored image that fools the model; at 0 where the model has it wrong when clean.
    """
    matrix, curves = run.matrix, {}
    columns = [column for column in matrix.columns if column.record.norm == "L2"]
    for model in [TWIN, *answering(run)] if columns else []:
        falls = np.where(matrix.right(model), np.inf, 0.0)
        for column in columns:
            fooled = ~matrix.right(model, column)
            falls[column.index] = np.where(fooled, np.minimum(falls[column.index], _distances(run, column)), falls[column.index])
        falls = falls[matrix.index]
        finite = falls[np.isfinite(falls)]
        radii = np.linspace(0, float(finite.max()) if finite.size else 1.0, DISTANCES)
        curves[TWIN if model == TWIN else run.shown(model)] = radii, (falls[:, None] > radii).sum(axis=0), len(falls)
    return curves


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
    return rows.assign(
        twin_right=rows["twin_clean"] & (rows["twin_prediction"] == rows["label"]),
        engine_right=rows["engine_clean"] & (rows["engine_prediction"] == rows["label"]),
    )


def _distances(run: Run, column: Column) -> NDArray[np.float64]:
    """L2 distance of each image of a set from its clean form, as stored with the samples."""
    rows = run.samples
    record = column.record
    own = rows[(rows["source"] == record.source) & (rows["target"] == record.target) & (rows["attack"] == record.name)]
    by_index = own.drop_duplicates("index").set_index("index")["l2"]
    return by_index.reindex(column.index).to_numpy(dtype=np.float64)


def _tally(engine: str, eps: Fraction, attacks: int, twin: Right, right: Right) -> WorstCase:
    return WorstCase(
        engine, eps, attacks, int((twin & right).sum()), int((twin & ~right).sum()), int((~twin & right).sum()), int((~twin & ~right).sum())
    )
