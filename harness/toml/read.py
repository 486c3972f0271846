"""TOML files that a user writes: read with one clear line for each way they can be wrong."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from harness.errors import UsageError

REPEATED = ("Cannot overwrite", "Cannot declare", "Duplicate inline table key")  # how Python's reader begins to say it


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The tables of a file; `what` it is called in an error, such as "recipe".

    Raises:
        UsageError: it cannot be read, or is not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {what} {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{what} {path}: it is not TOML: {error}") from error
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise UsageError(f"{what} {path}: its tables and lists nest too deep") from error
    except ValueError as error:  # a number of too many digits is no TOMLDecodeError
        line = _repeated_line(text) if str(error).startswith(REPEATED) else None
        reason = f"line {line} says what an earlier line has said" if line else str(error)
        raise UsageError(f"{what} {path}: it is not TOML: {reason}") from error


def _repeated_line(text: str) -> int | None:
    """The line of a key or table that stands there already, from 1: Python's reader tells where its value ends. None: another fault."""
    lines = text.splitlines()
    for number in range(1, len(lines) + 1):
        try:
            tomllib.loads("\n".join(lines[:number]))
        except tomllib.TOMLDecodeError as error:
            if str(error).startswith(REPEATED):
                return number
    return None
