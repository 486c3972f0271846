"""This process attacks one batch after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.attacks.batch import Attacked
from harness.attacks.work import Batch, Common, attacked


class Local:
    """See `Executor`."""

    def run(self, common: Common, batches: Iterable[tuple[int, Batch]]) -> Iterator[tuple[int, Attacked]]:
        """In their order."""
        for number, batch in batches:
            yield number, attacked(common, batch)

    def close(self) -> None:
        """Nothing was taken."""
