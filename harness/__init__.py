"""The programme on the workstation: command line, models, data, training, attacks, audit and the record.

Knows how to ask for an artefact (`export`), for measurements (`devices`) and for a report (`reports`);
does not know how any of the three is made. Importing `harness` alone imports no torch: `bench`, `attack` and `load_run` come at the
first use (docs/python.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.api import Attacked, attack, bench
    from reports.tables import load_run

__version__ = "0.1.0"
__all__ = ["Attacked", "__version__", "attack", "bench", "load_run"]

_LAZY = {"attack": "harness.api", "bench": "harness.api", "Attacked": "harness.api", "load_run": "reports.tables"}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
