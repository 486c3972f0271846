"""What can still be read of a damaged `record.json`: everything before the place where it is cut off, less the parts that make no sense."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.records import RECORD, SCHEMA, RunRecord


def salvage(folder: Path) -> tuple[RunRecord, str] | None:
    """The record without its verdict, and what was lost in words; None where its head, or its schema, cannot be read."""
    try:
        text = (folder / RECORD).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    whole, raw = _parsed(text)
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        return None
    lost = [] if whole else ["all that followed where it is cut off"]
    raw["verdict"] = None
    while True:
        try:
            return RunRecord.model_validate(raw), ", ".join(lost)
        except ValidationError as error:
            found = _dropped(raw, error.errors()[0]["loc"])
            if found is None:
                return None
            lost.append(found)


def _parsed(text: str) -> tuple[bool, Any]:
    """Whether the text is JSON, and its value; else that of its longest beginning, with what is open closed."""
    try:
        return True, _read(text)
    except ValueError:
        pass
    for end, closing in reversed(_ends(text)):
        try:
            return False, _read(text[:end] + closing)
        except ValueError:
            continue
    return False, None


def _ends(text: str) -> list[tuple[int, str]]:
    """Where a value of the text ends, and the brackets that would close what is open there, outermost last."""
    found, closing, quoted, escaped = [], "", False, False
    for place, character in enumerate(text):
        if quoted:
            escaped, quoted = character == "\\" and not escaped, character != '"' or escaped
        elif character == '"':
            quoted = True
        elif character in "{[":
            closing = ("}" if character == "{" else "]") + closing
        elif character in "}]":
            closing = closing[1:]
            found.append((place + 1, closing))
        elif character == ",":
            found.append((place, closing))
    return found


def _dropped(raw: dict[str, Any], place: tuple[int | str, ...]) -> str | None:
    """Take the part with an error out of the record: an item of a list, or a field that need not be there. None: it must be there."""
    field = str(place[0]) if place else ""
    value = raw.get(field)
    if isinstance(value, list) and len(place) > 1 and isinstance(place[1], int):
        del value[place[1]]
        return f"{field}[{place[1]}]"
    required = any(info.is_required() for name, info in RunRecord.model_fields.items() if (info.alias or name) == field)
    if field not in raw or required:
        return None
    del raw[field]
    return field


def _read(text: str) -> Any:
    """JSON, with None where a number is none: the part that needs it is then left out. Raises ValueError."""
    try:
        return json.loads(text, parse_constant=lambda _: None, parse_float=lambda digits: x if math.isfinite(x := float(digits)) else None)
    except RecursionError:
        raise ValueError("its lists and objects nest too deep") from None
