"""Entries from outside: an installed package's entry points, and modules that the user names with `--plugin`, add to the tables.

A table is a plain dict. An entry point `NAME = package.module:OBJECT` in the group `edge_harness.attacks` is the entry NAME of that table;
a module that is named is imported, and adds what it has to add: `ATTACKS["mine"] = Attack(...)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from harness.errors import UsageError

TABLES = {
    "attacks": "harness.attacks.table:ATTACKS",
    "sources": "harness.sources:SOURCES",
    "engines": "devices.worker.engines:ENGINES",
    "flavours": "export.flavours:FLAVOURS",
    "methods": "harness.compression.table:METHODS",
    "gates": "harness.audit.gates:GATES",
    "requirements": "harness.requirements.kinds:KINDS",
    "sections": "reports.sections:SECTIONS",
}


def load(modules: Iterable[str]) -> None:
    """Add what installed packages and the named modules have; a table without entries from outside is not imported.

    Raises:
        UsageError: a module or an entry cannot be imported, or an entry would replace another.
    """
    installed = entry_points()  # every package's, read once: it opens a file of each of them
    for group, path in TABLES.items():
        for entry in installed.select(group=f"edge_harness.{group}"):
            table = _table(path)
            found = _imported(entry.value, entry.load)
            if table.setdefault(entry.name, found) is not found:
                raise UsageError(f"the entry point {entry.name} = {entry.value} would replace an entry of {group}; give it another name")
    for name in modules:
        _imported(f"--plugin {name}", partial(import_module, name))


def _table(path: str) -> dict[str, Any]:
    module, _, name = path.partition(":")
    table: dict[str, Any] = getattr(import_module(module), name)
    return table


def _imported(name: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Exception as error:  # whatever the module of somebody else raises
        raise UsageError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error
