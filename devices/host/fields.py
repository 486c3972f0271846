"""A TOML table or JSON object -> a frozen dataclass, checked field by field: which are there, their types, nothing that nobody knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from devices.host.errors import DeviceError
from devices.worker.plain import printable

T = TypeVar("T")

_WORDS = {str: "strings", int: "whole numbers", float: "numbers"}


def read_table(kind: type[T], raw: Mapping[str, Any], where: str = "") -> T:
    """Make a `kind` of a parsed table. A field without a default must be there; lists become tuples, tables nested dataclasses.

    Args:
        kind: a dataclass whose fields are str, bool, int, float, tuple[X, ...], dict[str, X], another such dataclass, X | None, or Any.
        raw: the table.
        where: its dotted name, for messages; empty at the top.

    Raises:
        DeviceError: names the field, what came and what was expected.
    """
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind) if field.init}  # type: ignore[arg-type]
    needed = {name for name, field in known.items() if field.default is MISSING and field.default_factory is MISSING}
    missing, unknown = sorted(needed - raw.keys()), sorted(raw.keys() - known.keys())
    if missing or unknown:
        place = f"in [{where}] " if where else ""
        raise DeviceError(f"{place}fields missing: {missing}; fields unknown: {_shown(unknown)} ({len(missing) + len(unknown)} in all)")
    return kind(**{name: _value(f"{where}.{name}" if where else name, value, hints[name]) for name, value in raw.items()})


def _value(name: str, value: Any, hint: Any) -> Any:
    if hint is Any or (value is None and NoneType in get_args(hint)):
        return value
    hint = next((part for part in get_args(hint) if part is not NoneType), hint) if NoneType in get_args(hint) else hint
    inner = get_args(hint)[-1] if get_origin(hint) is dict else next(iter(get_args(hint)), None)
    if get_origin(hint) is tuple:
        return tuple(_items(name, value, inner))
    if get_origin(hint) is dict:
        return {key: _value(f"{name}.{key}", item, inner) for key, item in _table(name, value).items()}
    if is_dataclass(hint):
        return read_table(hint, _table(name, value), name)  # type: ignore[arg-type]
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise DeviceError(f"{name} is {_shown(value)}; expected {hint.__name__}")
    return value


def _items(name: str, value: Any, inner: Any) -> list[Any]:
    if is_dataclass(inner):
        if not isinstance(value, list):
            raise DeviceError(f"{name} is {_shown(value)}; expected a list of tables, each headed [[{name}]]")
        return [read_table(inner, _table(f"{name}[{i}]", item), f"{name}[{i}]") for i, item in enumerate(value)]  # type: ignore[arg-type]
    if not (isinstance(value, list) and all(type(item) is inner for item in value)):
        raise DeviceError(f"{name} is {_shown(value)}; expected a list of {_WORDS[inner]}")
    return value


def _table(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DeviceError(f"{name} is {_shown(value)}; expected a table")
    return value


def _shown(value: Any) -> str:
    """A value in a message: on one line, and not for pages."""
    return printable(repr(value), 80)
