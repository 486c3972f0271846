"""S4: attacks on each engine itself, and on the twin with the same attacks, starts and budgets.

First along gradients: the engine's own margin, and the gradient of its graph read back, or of the twin where it has no quantizers (BPDA),
for a quarter of the steps from the best failure of all before, then whole from a random start. Beyond tier `quick`, also near the boundary
between the clean image and that failure.
Then by queries alone, so that nothing rests on those gradients: from scratch, and from the best failure of all before; where the run
measures L2 distances, for these too.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.attacks.access import Access
from harness.attacks.table import Attack, resolve
from harness.attacks.target import GuidedTarget, Target
from harness.sources import flavour_of
from harness.sources.planned import Context, Planned

BEFORE = ("S1", "S3")  # whose failures are gone on from


def plan(context: Context) -> Iterator[Planned]:
    """For the twin and each engine, BPDA and the attacks by queries that its answers allow."""
    if not context.subject.attacks or not context.engines:
        return
    by_queries = {name: _by_queries(engine, context) for name, engine in context.engines.items()}
    on_twin = list(dict.fromkeys(attack for attacks in by_queries.values() for attack in attacks))
    yield from _sets(context, context.twin, context.twin, on_twin)
    for name, engine in context.engines.items():
        guide = context.graphs.get(flavour_of(name)) or context.twin
        yield from _sets(context, GuidedTarget(engine, guide.module), engine, by_queries[name])


def _sets(context: Context, guided: Target, alone: Target, by_queries: list[Attack]) -> Iterator[Planned]:
    """BPDA on the target with a gradient, the rest on it without one."""
    eps, name = context.subject.eps, alone.id
    yield Planned("S4", guided, resolve("bpda").with_steps(context.settings.plan.bpda_steps), eps, name, warm=BEFORE)
    if context.settings.tier != "quick":
        yield Planned("S4", guided, resolve("bisect"), eps, name, warm=BEFORE)
    for attack in by_queries:
        yield Planned("S4", alone, attack, eps, name, warm=BEFORE if attack.continues else ())


def _by_queries(engine: Target, context: Context) -> list[Attack]:
    """Of an engine that names labels only, the attack that needs no more."""
    names = ["hopskipjump"]
    if engine.access.suffices(Access.SCORES):
        distances = context.settings.tier != "quick" and any(not attack.bounded for attack in context.subject.attacks)
        names = ["square", "square-warm", *["square-l2"] * distances]
    return [resolve(name).with_steps(context.settings.plan.queries) for name in names]
