"""What can still be read of a `record.json` that is damaged or of a newer schema: all but the parts that make no sense here."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from harness.records import RECORD, SCHEMA, DataRecord, DeviceRecord, ModelRecord, RunRecord

Place = tuple[int | str, ...]
Kind = TypeVar("Kind", bound=BaseModel)

HEADS: dict[str, type[BaseModel]] = {"device": DeviceRecord, "model": ModelRecord, "data": DataRecord}
MOST_NAMED = 20
NO_FIELD, LACKING, NO_PART = "extra_forbidden", "missing", "model_type"  # pydantic's names of what is wrong


@dataclass(frozen=True)
class Salvaged:
    """A record without its verdict.

    Attributes:
        record: of a newer schema, fields of its head that cannot be read are not there: asked for, they raise AttributeError.
        lost: what could not be read, in words.
        newer: what wrote it, in words; empty where it is of this schema, and damaged.
    """

    record: RunRecord
    lost: str
    newer: str = ""


def salvage(folder: Path) -> Salvaged | None:
    """What is left of the record; None where its schema cannot be read or is older, or where a damaged one has lost its head."""
    try:
        text = (folder / RECORD).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    whole, raw = _parsed(text)
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < SCHEMA:
        return None
    newer = f"schema {schema}, edge-harness {raw.get('harness_version', 'of an unknown version')}" if schema > SCHEMA else ""
    raw |= {"schema": SCHEMA, "verdict": None}
    left = _Left(raw)
    holes = left.prune()
    if holes and not newer:
        return None
    lost: dict[str, list[Place]] = {
        "all that followed where it is cut off": [] if whole else [()],
        "not as it is read here": _outermost(left.unread),
        "not known here": _outermost(left.unknown),
        "not there": holes,
    }
    words = "; ".join(f"{what}: {_named(places)}".removesuffix(": ") for what, places in lost.items() if places)
    return Salvaged(_built(RunRecord, raw, holes), words or "no part", newer)


class _Left:
    """A record from which whatever does not fit is taken away, each time the smallest part that need not be there.

    `unknown`: fields that this version does not have; `unread`: parts that are of another type or lack something. Both are places in the
    record as it was stored.
    """

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw
        self.unknown: list[Place] = []
        self.unread: list[Place] = []
        self._kept: dict[Place, list[int]] = {}  # a list's place -> where its items stood before any was taken

    def prune(self) -> list[Place]:
        """Take away what does not fit; returns what the head lacks."""
        while True:
            try:
                RunRecord.model_validate(self.raw)
            except ValidationError as error:
                faults = [(fault["type"], fault["loc"]) for fault in error.errors(include_url=False, include_input=False)]
            else:
                return []
            taken = {place: kind for kind, loc in faults if (place := self._taken(kind, loc))}
            if not taken:
                return [loc for _, loc in faults]
            gone = _outermost(taken)
            for place in gone:
                (self.unknown if taken[place] == NO_FIELD else self.unread).append(self._stored(place))
            for place in reversed(gone):  # from the end of each list: what stands before keeps its position
                self._take(place)

    def _taken(self, kind: str, loc: Place) -> Place:
        """What has to go for one fault: the part that is wrong or lacks something, a list of plain values whole. Of the head nothing."""
        part: Any = self.raw
        size = 0
        for key in loc:
            known = key in part if isinstance(part, dict) else isinstance(part, list) and isinstance(key, int) and key < len(part)
            if not known:
                break
            part, size = part[key], size + 1
        if kind == LACKING and (size == 0 or (size == 1 and loc[0] in HEADS)):
            return ()
        of_a_list = size > 0 and isinstance(loc[size - 1], int)
        return loc[: size - 1] if of_a_list and kind != NO_PART and not isinstance(part, dict) else loc[:size]

    def _stored(self, place: Place) -> Place:
        """Where a part stood before any was taken."""
        stored: Place = ()
        for key in place:
            stored = (*stored, self._kept[stored][key] if isinstance(key, int) and stored in self._kept else key)
        return stored

    def _take(self, place: Place) -> None:
        part: Any = self.raw
        for key in place[:-1]:
            part = part[key]
        if isinstance(part, list):
            self._kept.setdefault(self._stored(place[:-1]), list(range(len(part)))).pop(int(place[-1]))
        del part[place[-1]]


def _built(kind: type[Kind], raw: Mapping[str, Any], holes: Iterable[Place]) -> Kind:
    """A part of the record from what is left of it, without the fields at `holes`, which it needs."""
    if not holes:
        return kind.model_validate(raw)
    fields: dict[str, Any] = {info.alias or name: info.annotation for name, info in kind.model_fields.items()}
    values: dict[str, Any] = {}
    for name in fields.keys() & raw.keys():
        own = [hole[1:] for hole in holes if hole[0] == name]
        values[name] = _built(HEADS[name], raw[name], own) if own else TypeAdapter[Any](fields[name]).validate_python(raw[name])
    return kind.model_construct(None, **values)


def _outermost(places: Iterable[Place]) -> list[Place]:
    """Those that are not within another one."""
    every = set(places)
    return [place for place in places if not any(place[:size] in every for size in range(1, len(place)))]


def _named(places: Iterable[Place]) -> str:
    """Each place once, with how many positions it stands for: `engines[0].load_ms, transfer[].rate (20)`."""
    counts = Counter("".join("[]" if isinstance(key, int) else f".{key}" for key in place) for place in places)
    first = {"".join("[]" if isinstance(key, int) else f".{key}" for key in place): place for place in places}
    names = [
        f"{name} ({n:,})" if n > 1 else "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in first[name])
        for name, n in counts.items()
    ]
    more = [f"and {len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return ", ".join([name.removeprefix(".") for name in names[:MOST_NAMED]] + more)


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


def _read(text: str) -> Any:
    """JSON, with None where a number is none: the part that needs it is then left out. Raises ValueError."""
    try:
        return json.loads(text, parse_constant=lambda _: None, parse_float=lambda digits: x if math.isfinite(x := float(digits)) else None)
    except RecursionError:
        raise ValueError("its lists and objects nest too deep") from None
