"""Entries from outside: an installed package's entry points, and modules that the user names with `--plugin`, add to the tables.

A table is a plain dict. An entry point `NAME = package.module:OBJECT` in the group `edge_harness.attacks` is the entry NAME of that table;
a module that is named is imported, and adds what it has to add: `ATTACKS["mine"] = Attack(...)`.
"""

from __future__ import annotations

import sys
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
NAMED = {"attacks": "name", "sources": "id", "flavours": "name"}
"""Tables whose entries say themselves what they are called -> the field."""


def load(modules: Iterable[str]) -> None:
    """Add what installed packages and the named modules have; a table without entries from outside is not imported.

    Raises:
        UsageError: a module or an entry cannot be imported, or an entry would replace another, is of another kind than its table's, or
            is called otherwise than its key: the report would name another one.
    """
    installed = entry_points()  # every package's, read once: it opens a file of each of them
    for group, path in TABLES.items():
        for entry in installed.select(group=f"edge_harness.{group}"):
            table = _table(path)
            found = _imported(entry.value, entry.load)
            if table.setdefault(entry.name, found) is not found:
                raise UsageError(f"the entry point {entry.name} = {entry.value} would replace an entry of {group}; give it another name")
            _check(f"the entry point {entry.name} = {entry.value}", group, table, entry.name)
    for name in modules:
        _add(name)


def _add(name: str) -> None:
    """Import a module that adds to the tables itself; where it does more than that, they are as before."""
    tables = {group: _table(path) for group, path in TABLES.items()}
    before = {group: dict(table) for group, table in tables.items()}
    what = f"--plugin {name}"
    try:
        _imported(what, partial(import_module, name))
        for group, table in tables.items():
            if lost := [key for key, entry in before[group].items() if table.get(key) is not entry]:
                raise UsageError(f"{what} would replace or remove {', '.join(map(repr, lost))} of {group}; give its entry another name")
            for key in table.keys() - before[group].keys():
                _check(what, group, table, key)
    except UsageError:
        for group, table in tables.items():
            table.clear()
            table.update(before[group])
        sys.modules.pop(name, None)  # else it would be taken for one that was imported well
        raise


def _check(what: str, group: str, table: dict[str, Any], key: str) -> None:
    """Raise UsageError unless an entry is of the kind of those before it, and called as its key says."""
    kind, entry = type(next(iter(table.values()))), table[key]
    if type(entry) is not kind:
        raise UsageError(f"{what}: the entry {key!r} of {group} is {type(entry).__name__}; expected {kind.__name__}")
    own = getattr(entry, NAMED[group], key) if group in NAMED else key
    if own != key:
        raise UsageError(f"{what}: the entry {key!r} of {group} calls itself {own!r}; expected one name for both")


def _table(path: str) -> dict[str, Any]:
    module, _, name = path.partition(":")
    table: dict[str, Any] = getattr(import_module(module), name)
    return table


def _imported(name: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except (Exception, SystemExit) as error:  # whatever the module of somebody else raises
        raise UsageError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error
