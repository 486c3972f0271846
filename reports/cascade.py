"""Survivors of a run's attacks, one after another, from the answers of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from harness.answers import TWIN, Column
from harness.sources import concerns
from reports.outcomes import answering
from reports.run import Run


@dataclass(frozen=True)
class Stage:
    """After one attack: model -> images on which it held out until then. `counts_for`: whose worst case the set is part of; `shown`: its
    images, None before the first attack.
    """

    attack: str
    made_on: str
    eps: str
    shown: int | None
    left: Mapping[str, int]
    counts_for: frozenset[str]


def cascade(run: Run) -> tuple[list[str], list[Stage]]:
    """The models, the twin first, and the stages at the claimed radius in the order of the attacks; the first is the clean images."""
    engines = answering(run)
    eps = _radius(run)
    columns = [c for c in run.matrix.columns if c.eps == eps and any(concerns(c, engine) for engine in engines)]
    if not columns:
        return [], []
    matrix, models = run.matrix, [TWIN, *engines]
    left = {model: matrix.right(model) for model in models}

    def stage(attack: str, made_on: str, shown: int | None, counts_for: frozenset[str]) -> Stage:
        counts = {model: int(right[matrix.index].sum()) for model, right in left.items()}
        return Stage(attack, made_on, str(eps), shown, counts, counts_for)

    stages = [stage("no attack (clean)", "", None, frozenset(models))]
    for column in columns:
        counts_for = frozenset(model for model in models if _counts(column, model))
        for model in counts_for:
            left[model][column.index] &= matrix.right(model, column)
        aim = "" if column.record.target == TWIN else f", {run.shown(column.record.target)}"
        stages.append(stage(column.record.name, f"{column.record.source}{aim}", len(column.index), counts_for))
    return models, stages


def _counts(column: Column, model: str) -> bool:
    return column.record.target == TWIN if model == TWIN else concerns(column, model)


def _radius(run: Run) -> Fraction:
    """That of the claims; where there is none, the largest of a set that decides."""
    claimed = [Fraction(claim.eps_exact) for claim in run.record.claims]
    return max(claimed or [c.eps for c in run.matrix.columns if concerns(c, c.record.target)], default=Fraction(0))
