"""Which step costs the robustness: parent, twin, quantized, simulated, engine, rebuild. Differences of neighbouring rows of the matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Literal

from harness.answers import TWIN, Column, Matrix, Right
from harness.audit.paired import pair
from harness.audit.statistics import share
from harness.records import Decomposition, Gap, Level, Waterfall
from harness.sources import PARENT, deciding, facing, flavour_of, graph_name, simulated_name

Name = Literal["parent", "twin", "quantized", "simulated", "engine", "rebuild"]
Found = tuple[Name, str, Right]
HIDDEN = (
    "The models between were not shown every set: an image left as soon as twin and engine had been fooled on it. They are compared "
    "under the sets that hold every image; --tier bench shows them all, --exhaustive too."
)


def decompositions(matrix: Matrix, engines: Sequence[str], eps: Fraction, margin: float, *, whole: bool) -> Iterator[Decomposition]:
    """One for each flavour.

    Args:
        matrix: everyone's answers.
        engines: those that answered, in the order of their builds.
        eps: the primary radius.
        margin: of the claims.
        whole: the models between were shown whatever the twin and the engines were.
    """
    flavours = {flavour_of(name): [other for other in engines if flavour_of(other) == flavour_of(name)] for name in engines}
    for first, *others in flavours.values():
        every = deciding(matrix.columns, first, eps)
        replayed = [column for column in every if column.record.source == "S1"]
        if not every:
            continue
        shown = replayed if whole else [c for c in replayed if len(c.index) == len(matrix.index)]
        between = _between(matrix, first)
        falls = [
            _waterfall(matrix, "replay", shown, [first, *others], between, eps, margin, whole=whole) if shown else None,
            _waterfall(matrix, "adaptive", every, [first, *others], between if whole else [], eps, margin, whole=whole),
        ]
        yield Decomposition(
            engine=first,
            eps_exact=str(eps),
            n=len(matrix.index),
            replay=_apart(matrix, first, replayed, margin) if replayed else None,
            adaptive=_apart(matrix, first, every, margin),
            waterfalls=[fall for fall in falls if fall is not None],
            note=HIDDEN if between and not whole else "",
        )


def _between(matrix: Matrix, engine: str) -> list[tuple[Name, str]]:
    rows: list[tuple[Name, str]] = [("quantized", graph_name(engine)), ("simulated", simulated_name(engine))]
    return [(name, row) for name, row in rows if matrix.has(row)]


def _waterfall(
    matrix: Matrix,
    under: Literal["replay", "adaptive"],
    columns: Sequence[Column],
    builds: Sequence[str],
    between: Sequence[tuple[Name, str]],
    eps: Fraction,
    margin: float,
    *,
    whole: bool,
) -> Waterfall:
    first, *others = builds
    own = facing(matrix.columns, PARENT, eps)
    found: list[Found] = []
    if under == "replay" and whole and own and matrix.has(PARENT):
        found.append(("parent", PARENT, matrix.worst_case(PARENT, own)))
    found += [(name, row, matrix.worst_case(row, columns)) for name, row in [("twin", TWIN), *between, ("engine", first)]]
    if others:
        theirs = {name: columns if under == "replay" else deciding(matrix.columns, name, eps) for name in others}
        worst = min(others, key=lambda name: int(matrix.worst_case(name, theirs[name]).sum()))
        found.append(("rebuild", worst, matrix.worst_case(worst, theirs[worst])))
    return Waterfall(
        under=under,
        sets=list(dict.fromkeys(f"{column.record.source} {column.record.name}" for column in columns if column.eps == eps)),
        levels=[
            Level(
                name=name,
                model=model,
                robust=share(int(right.sum()), len(right)),
                lost=_lost(found[place - 1][2], right, margin) if place else None,
            )
            for place, (name, model, right) in enumerate(found)
        ],
    )


def _apart(matrix: Matrix, engine: str, columns: Sequence[Column], margin: float) -> Gap:
    """Twin less engine under some sets."""
    return _lost(matrix.worst_case(TWIN, columns), matrix.worst_case(engine, columns), margin)


def _lost(before: Right, after: Right, margin: float) -> Gap:
    seen = pair(before, after, margin)
    return Gap(gap=seen.gap, lower=seen.lower, upper=seen.upper)
