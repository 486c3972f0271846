"""S3: the same attacks on each engine's own graph, where it has quantizers or was not made here, read back into PyTorch with
straight-through gradients.

They begin where the attacks on the twin ended, for a quarter of their steps, since the two graphs differ by a percent; then come whole
runs from random starts. Beyond tier `quick`, once more with the logits divided by a temperature, on the cross-entropy and on the margin of
the probabilities: the logits of a quantized network can saturate both.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.attacks.access import Access
from harness.attacks.table import resolve
from harness.sources.planned import Context, Planned

SATURATED = ("apgd-scaled", "apgd-probs")


def plan(context: Context) -> Iterator[Planned]:
    """One set for each flavour with a graph of its own and each gradient attack; all builds of a flavour have one graph."""
    for flavour, graph in context.graphs.items():
        for attack in context.subject.attacks:
            if attack.access is Access.GRADIENT:
                yield Planned("S3", graph, attack, context.subject.eps, flavour, warm=("S1",))
        if context.subject.attacks and context.settings.tier != "quick":
            for name in SATURATED:
                scaled = resolve(name).with_steps(context.settings.plan.apgd_steps)
                yield Planned("S3", graph, scaled, context.subject.eps, flavour, warm=("S1",))
