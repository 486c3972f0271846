"""S7: the twin with weights of 4 and of 2 bits, for each engine with a graph of its own.

Attacks transfer poorly between precisions (Fu et al., "Double-Win Quant", ICML 2021), so that a network of a low one may find what the
twin's gradients do not.

The networks are one for all flavours; the sets are made for each, and go on until its engines are fooled.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.attacks.table import resolve
from harness.sources.planned import Context, Planned


def plan(context: Context) -> Iterator[Planned]:
    """One set for each flavour with a graph of its own and each of the networks."""
    for flavour in context.graphs if context.subject.attacks else ():
        for bits, target in context.fewer_bits.items():
            attack = resolve("apgd-ce").with_steps(context.settings.plan.apgd_steps)
            yield Planned("S7", target, attack.on(f"w{bits}"), context.subject.eps, flavour)
