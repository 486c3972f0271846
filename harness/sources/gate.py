"""The set of the gate "large radius": PGD on the twin at 64/255, where whatever survives says that the attack cannot find it."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from harness.answers import TWIN
from harness.attacks.table import resolve
from harness.sources.planned import Context, Planned

EPS = Fraction(64, 255)
IMAGES = 64


def plan(context: Context) -> Iterator[Planned]:
    """One small set."""
    if context.subject.attacks:
        yield Planned("gate", context.twin, resolve("pgd"), EPS, TWIN, index=context.subject.index[:IMAGES])
