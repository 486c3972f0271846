"""Which network to take: the Pareto front of robust accuracy against a cost, and one rule that picks from all candidates.

The rule: of the candidates that give up less than delta of the robust accuracy of the most robust one, the cheapest. "Less than delta" is
a paired one-sided 95 % statement about the same images: Tango's upper bound of the gap is below delta. The most robust one itself always
qualifies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.audit.metrics import Right
from harness.audit.paired import pair
from harness.audit.reasons import in_points
from harness.sweep.record import Axis, Front, Point
from reports.format import points

RULE = (
    "Of the candidates whose robust accuracy is less than {delta} below that of the most robust one (paired on the same images, "
    "Tango's one-sided 95 % upper bound of the gap; the most robust one itself counts), the one of the lowest cost; of equals, the "
    "more robust."
)


@dataclass(frozen=True)
class Candidate:
    """Something that could be deployed. `right`: bool (n,), survives the attacks; of the same images for every candidate."""

    name: str
    cost: float
    right: Right


def recommend(candidates: Sequence[Candidate], axis: Axis, what: str, unit: str, delta: float, eps: str) -> Front | None:
    """The front over one cost (lower is better), None where fewer than two candidates have it.

    Raises:
        ValueError: the candidates do not hold the same number of images, or two have one name.
    """
    if len(candidates) < 2:
        return None
    if len({c.name for c in candidates}) < len(candidates):
        raise ValueError("two candidates have the same name")
    # The most robust; of equals the cheapest, then by name, so that the answer does not depend on the order.
    best = min(candidates, key=lambda c: (-int(c.right.sum()), c.cost, c.name))
    gaps = {c.name: pair(best.right, c.right, delta) for c in candidates}
    allowed = [c for c in candidates if c is best or gaps[c.name].upper < delta]
    chosen = min(allowed, key=lambda c: (c.cost, -int(c.right.sum()), c.name))
    places = [
        Point(
            name=c.name,
            cost=c.cost,
            robust=gaps[c.name].engine,
            on_front=not any(dominates(other, c) for other in candidates),
            given_up=gaps[c.name].gap,
            given_up_at_most=0.0 if c is best else gaps[c.name].upper,
        )
        for c in sorted(candidates, key=lambda c: (c.cost, c.name))
    ]
    found = gaps[chosen.name]
    gap, upper = (points(value, delta).removeprefix("+") for value in (found.gap, found.upper))
    cheaper = any(c.cost < best.cost for c in candidates)
    reason = (
        f"{chosen.name} is the most robust of {len(candidates)} candidates, and "
        + (f"no cheaper one is shown to be within {in_points(delta)}." if cheaper else "none is cheaper.")
        if chosen is best
        else f"{chosen.name} needs {best.cost / chosen.cost:.3g} times less than {best.name}, the most robust, and gives up "
        f"{gap} points, at most {upper} with 95 % confidence (n = {found.n:,})."
    )
    rule = RULE.format(delta=in_points(delta))
    return Front(axis=axis, eps=eps, unit=unit, what=what, delta=delta, points=places, recommended=chosen.name, rule=rule, reason=reason)


def dominates(one: Candidate, other: Candidate) -> bool:
    """At least as robust and at most as costly, and better in one of the two."""
    robust = int(one.right.sum()) - int(other.right.sum())
    return robust >= 0 and one.cost <= other.cost and (robust > 0 or one.cost < other.cost)
