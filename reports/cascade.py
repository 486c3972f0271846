"""Survivors of a run's attacks, one after another, from the answers of a run: the last of them are those of the claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from harness.answers import TWIN
from harness.sources import concerns, deciding
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
    """The models, the twin first, and the stages at the claimed radius in the order of the attacks; the first is the clean images.

    A set counts for an engine where its claim rests on it, and for the twin where any claim does. One of a smaller radius is a stage where
    it took an image.
    """
    engines = answering(run)
    eps = _radius(run)
    resting = {engine: deciding(run.matrix.columns, engine, eps) for engine in engines}
    if not any(column.eps == eps for columns in resting.values() for column in columns):
        return [], []
    matrix, models = run.matrix, [TWIN, *engines]
    left = {model: matrix.right(model) for model in models}

    def stage(attack: str, made_on: str, shown: int | None, counts_for: frozenset[str]) -> Stage:
        counts = {model: int(right[matrix.index].sum()) for model, right in left.items()}
        return Stage(attack, made_on, str(eps), shown, counts, counts_for)

    stages = [stage("no attack (clean)", "", None, frozenset(models))]
    for column in matrix.columns:
        own = [engine for engine, columns in resting.items() if any(column is one for one in columns)]
        counts_for = frozenset([TWIN, *own] if own else [])
        for model in counts_for:
            left[model][column.index] &= matrix.right(model, column)
        aim = "" if column.record.target == TWIN else f", {run.shown(column.record.target)}"
        smaller = "" if column.eps == eps else f" at {column.eps}"
        after = stage(f"{column.record.name}{smaller}", f"{column.record.source}{aim}", len(column.index), counts_for)
        if own and (not smaller or after.left != stages[-1].left):
            stages.append(after)
    return models, stages


def _radius(run: Run) -> Fraction:
    """That of the claims; where there is none, the largest of a set that decides."""
    claimed = [Fraction(claim.eps_exact) for claim in run.record.claims]
    return max(claimed or [c.eps for c in run.matrix.columns if concerns(c, c.record.target)], default=Fraction(0))
