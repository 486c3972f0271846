"""S1: the run's attacks on the twin at the primary radius, then PGD at the other radii of the security curve.

Where the run knows what the twin was compressed from, the same attacks on that: these sets count in no claim, and tell what
compression cost.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.answers import TWIN
from harness.attacks.access import Access
from harness.attacks.table import resolve
from harness.settings import CURVE
from harness.sources import PARENT
from harness.sources.planned import Context, Planned


def plan(context: Context) -> Iterator[Planned]:
    """One set for each gradient attack, and one for each radius of the curve: smaller ones downwards, larger ones upwards."""
    eps, attacks = context.subject.eps, context.subject.attacks
    for attack in attacks:
        if attack.access is Access.GRADIENT:
            yield Planned("S1", context.twin, attack, eps, TWIN)
    if attacks:
        for radius in [*sorted((r for r in CURVE if r < eps), reverse=True), *sorted(r for r in CURVE if r > eps)]:
            yield Planned("S1", context.twin, resolve("pgd"), radius, TWIN)
    for attack in attacks:
        if context.parent is not None and attack.access is Access.GRADIENT:
            yield Planned("S1", context.parent, attack, eps, PARENT)
