"""S0: random noise of the same size. What it breaks needs no adversary."""

from __future__ import annotations

from collections.abc import Iterator

from harness.answers import TWIN
from harness.attacks.table import resolve
from harness.sources.planned import Context, Planned


def plan(context: Context) -> Iterator[Planned]:
    """One set of all images."""
    if context.subject.attacks:
        yield Planned("S0", context.twin, resolve("noise"), context.subject.eps, TWIN, index=context.subject.index)
