"""S3: the same attacks on each quantized engine's own graph, read back into PyTorch with straight-through gradients.

They begin where the attacks on the twin ended: the two graphs differ by a percent.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.attacks.access import Access
from harness.sources.planned import Context, Planned


def plan(context: Context) -> Iterator[Planned]:
    """One set for each engine with quantizers and each gradient attack."""
    for engine, graph in context.graphs.items():
        for attack in context.subject.attacks:
            if attack.access is Access.GRADIENT:
                yield Planned("S3", graph, attack, context.subject.eps, engine, warm=("S1",))
