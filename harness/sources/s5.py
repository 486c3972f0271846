"""S5: differential attacks on the twin and each graph that is read back: one fooled while the other stays right, both ways.

Gradients are those of the two modules; who is fooled is what the engines and the twin answer to the bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.answers import TWIN
from harness.attacks.table import resolve
from harness.attacks.target import ModuleTarget, Pair
from harness.sources.planned import Context, Planned


def plan(context: Context) -> Iterator[Planned]:
    """Two sets for each flavour with a graph of its own."""
    twin, steps, eps = context.twin.module, context.settings.plan.apgd_steps, context.subject.eps
    for flavour, graph in context.graphs.items() if context.subject.attacks else ():
        engine_falls, twin_falls = ModuleTarget(Pair(twin, graph.module), graph.id), ModuleTarget(Pair(graph.module, twin), TWIN)
        yield Planned("S5", engine_falls, resolve("diva").with_steps(steps), eps, flavour)
        yield Planned("S5", twin_falls, resolve("diva-reverse").with_steps(steps), eps, flavour)
