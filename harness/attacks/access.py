"""What an attack needs of its target."""

from __future__ import annotations

from enum import Enum


class Access(Enum):
    """What an attack needs of its target, the most first."""

    GRADIENT = "gradient"
    SCORES = "scores"
    LABELS = "labels"

    def suffices(self, needed: Access) -> bool:
        """Whether a target with this access can be attacked by what needs `needed`."""
        order = list(Access)
        return order.index(self) <= order.index(needed)
