"""The environment variables that engines get: those that this program was given, without what it set for itself.

How PyTorch's threads wait here, for instance, is no setting of an engine made of PyTorch, and would be in its latency.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

_own: dict[str, str] = {}


def set_here(variables: Mapping[str, str]) -> None:
    """Set them for this process, and for those of its children that are no engines."""
    os.environ.update(variables)
    _own.update(variables)


def given() -> dict[str, str]:
    """The environment without them."""
    return {name: value for name, value in os.environ.items() if _own.get(name) != value}
