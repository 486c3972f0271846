"""S2: the same attacks on the twin without its quantizers, where it has any. They begin as those of S3 do."""

from __future__ import annotations

from collections.abc import Iterator

from harness.answers import TWIN
from harness.attacks.access import Access
from harness.sources.planned import Context, Planned


def plan(context: Context) -> Iterator[Planned]:
    """One set for each gradient attack."""
    for attack in context.subject.attacks:
        if context.smooth is not None and attack.access is Access.GRADIENT:
            yield Planned("S2", context.smooth, attack, context.subject.eps, TWIN, warm=("S1",))
