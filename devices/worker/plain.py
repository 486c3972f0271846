"""Text and JSON that come from elsewhere, read so that nothing in them can do harm. Standard library only, Python >= 3.10."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

DEEPEST = 32  # lists and objects within each other
LONGEST = 1 << 16  # characters of one text
LARGEST = 1 << 64  # of a whole number, either way


def read_json(raw: bytes | str) -> Any:
    """A JSON value without what only trouble is made of: NaN, infinity, numbers and texts beyond reason, a hundred brackets in a row, half
    a character (a lone surrogate, which JSON can escape and UTF-8 cannot write).

    Raises:
        ValueError: not JSON, or one of these.
    """
    try:
        value = json.loads(raw, parse_constant=_no_number)
    except RecursionError:
        raise ValueError(f"it nests deeper than {DEEPEST}") from None
    _check(value)
    return value


def printable(text: str, longest: int = 300) -> str:
    """Text from elsewhere on one line, without control characters, at most `longest` characters long."""
    return "".join(c if c.isprintable() else "?" for c in text.replace("\t", " ").rstrip("\r\n")[:longest])


def cleaned(value: Any, longest: int = LONGEST) -> Any:
    """A JSON value with all its texts, keys too, made `printable`."""
    if isinstance(value, str):
        return printable(value, longest)
    if isinstance(value, list):
        return [cleaned(item, longest) for item in value]
    if isinstance(value, dict):
        return {printable(key, longest): cleaned(item, longest) for key, item in value.items()}
    return value


def _check(value: Any) -> None:
    """Walk level by level: a recursion would itself have to be bounded."""
    level, depth = [value], 0
    while level:
        if depth > DEEPEST:
            raise ValueError(f"it nests deeper than {DEEPEST}")
        for item in level:
            if isinstance(item, float) and not math.isfinite(item):
                raise ValueError("a number in it is not finite")
            if isinstance(item, int) and abs(item) > LARGEST:
                raise ValueError("a whole number in it is beyond 2^64")
            if isinstance(item, str):
                _check_text(item)
        level = [
            inner
            for item in level
            if isinstance(item, (list, dict))
            for inner in (item if isinstance(item, list) else [*item, *item.values()])
        ]
        depth += 1


def _check_text(text: str) -> None:
    if len(text) > LONGEST:
        raise ValueError(f"a text in it has {len(text)} characters; at most {LONGEST} are taken")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("a text in it holds half a character, which no file takes")


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")
