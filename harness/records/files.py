"""How a record is written and read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from harness.errors import UntrustedError, UsageError

Stored = TypeVar("Stored", bound=BaseModel)


def write_record(record: BaseModel, path: Path) -> None:
    """Write a record as JSON, whole or not at all, and safe on the disk.

    Raises:
        UsageError: a name in it, as of a folder that was made on another system, is not UTF-8.
        ValidationError: it could not be read again, as a NaN where a figure must be; the record that was there stays.
    """
    if (name := next(_not_utf8(record.model_dump()), None)) is not None:
        raise UsageError(f"{ascii(os.fsencode(name))[1:]} is not UTF-8, so {path} cannot name it; expected names in UTF-8. Rename it.")
    text = record.model_dump_json(indent=1, by_alias=True)
    type(record).model_validate_json(text)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _not_utf8(value: object) -> Iterator[str]:
    """Texts that hold bytes which are no character (see `os.fsdecode`), keys too."""
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        yield value
    elif isinstance(value, dict | list | tuple):
        for inner in (*value, *(value.values() if isinstance(value, dict) else ())):
            yield from _not_utf8(inner)


def read_record(kind: type[Stored], path: Path, schema: int, what: str) -> Stored:
    """Read a record that `write_record` wrote.

    Args:
        kind: its model.
        path: the file.
        schema: the one version that can be read.
        what: the file's folder ought to be, for the error.

    Raises:
        UsageError: there is no file.
        UntrustedError: it is damaged or of a schema this version does not know.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refused, parse_float=_finite)
        json.dumps(raw, ensure_ascii=False).encode()  # half a character, which JSON can escape, could not be written again
    except OSError as error:
        raise UsageError(f"{path.parent} is not {what}: {error.strerror or error} ({path.name})") from error
    except ValueError as error:
        raise UntrustedError(f"{path} is damaged: {error}") from error
    except RecursionError:
        raise UntrustedError(f"{path} is damaged: its lists and objects nest too deep") from None
    if not isinstance(raw, dict) or raw.get("schema") != schema:
        found = raw.get("schema") if isinstance(raw, dict) else type(raw).__name__
        raise UntrustedError(f"{path} has schema {found!r}; this version reads schema {schema}. Use the harness version that wrote it.")
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise UntrustedError(f"{path} is damaged: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _refused(constant: str) -> float:
    raise ValueError(f"it holds {constant}, which is no number")


def _finite(text: str) -> float:
    return value if math.isfinite(value := float(text)) else _refused(text)
