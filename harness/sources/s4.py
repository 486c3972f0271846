"""S4: attacks by queries on each engine itself, and on the twin with the same budget."""

from __future__ import annotations

from collections.abc import Iterator

from harness.answers import TWIN
from harness.attacks.table import resolve
from harness.sources.planned import Context, Planned


def plan(context: Context) -> Iterator[Planned]:
    """Square on the twin and on every engine that gives scores."""
    attack = resolve("square").with_steps(context.settings.plan.queries)
    if not context.subject.attacks or not context.engines:
        return
    yield Planned("S4", context.twin, attack, context.subject.eps, TWIN)
    for name, engine in context.engines.items():
        if engine.access.suffices(attack.access):
            yield Planned("S4", engine, attack, context.subject.eps, name)
