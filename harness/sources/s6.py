"""S6: sets that are aimed at other engines. None is made for it: every set is shown to every engine (`harness.stages.replays` reads it)."""

from __future__ import annotations

from collections.abc import Iterator

from harness.sources.planned import Context, Planned


def plan(context: Context) -> Iterator[Planned]:
    """Nothing."""
    yield from ()
