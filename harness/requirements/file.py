"""qualification.toml: what a deployed classifier must be, one requirement a line. Every fault is told with its line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UsageError, unknown
from harness.requirements.kinds import KINDS, REQUIRED, Kind
from harness.requirements.units import Value
from harness.toml.lines import Path as Place
from harness.toml.lines import lines
from harness.toml.read import read_toml

SCHEMA = 1  # 1: first version
CONFIDENCE = 0.95
EXAMPLE = 'clean-accuracy = { at_least = "75 %" }'
ENGINE = "engine"


@dataclass(frozen=True)
class Line:
    """One requirement: its kind's key, the kind's options, the limit in base units, whose it is (None: all engines'), its line."""

    kind: str
    options: Mapping[str, Any]
    limit: Value
    engine: str | None
    number: int

    @property
    def asks(self) -> Kind:
        """Its entry in the table."""
        return KINDS[self.kind]

    @property
    def name(self) -> str:
        """What its row is called."""
        return self.asks.name(self.options)


@dataclass(frozen=True)
class Wanted:
    """A requirements file.

    Attributes:
        path: where it was read; for errors.
        sha256: of its bytes.
        name: what it is called.
        confidence: that no row passes unjustly.
        engines: names or flavours that it is about; empty: all but the float control beside quantized engines.
        engines_line: where they are named.
        lines: in the order of the file.
    """

    path: Path
    sha256: str
    name: str
    confidence: float
    engines: tuple[str, ...]
    engines_line: int
    lines: tuple[Line, ...]

    def fault(self, line: int, reason: str) -> UsageError:
        """The error of a line."""
        return UsageError(f"{self.path}, line {line}: {reason}")

    def check_engines(self, known: Mapping[str, str]) -> None:
        """Refuse an engine that is in no run, or not in this one.

        Args:
            known: names of the engines, and their flavours.

        Raises:
            UsageError: names the nearest.
        """
        named = [(name, self.engines_line) for name in self.engines] + [(line.engine, line.number) for line in self.lines if line.engine]
        for name, number in named:
            if name not in known and name not in known.values():
                raise self.fault(number, str(unknown("engine", name, {*known, *known.values()})))


def read_requirements(path: Path) -> Wanted:
    """Read and check a requirements file.

    Raises:
        UsageError: it cannot be read, is not TOML, is empty, or a line cannot be meant; names the line.
    """
    content = read_toml(path, "requirements")
    text = path.read_bytes()
    return _Reader(path, content, lines(text.decode("utf-8").replace("\r\n", "\n"))).wanted(hashlib.sha256(text).hexdigest())


class _Reader:
    def __init__(self, path: Path, content: dict[str, Any], places: Mapping[Place, int]) -> None:
        self.path, self.content, self.places = path, content, places

    def wanted(self, sha256: str) -> Wanted:
        content, head = self.content, {"schema": self._schema, "name": self._name, "confidence": self._confidence, "engines": self._engines}
        for key in content:
            if key not in head and key not in KINDS:
                raise self._fault((key,), str(unknown("key", key, [*head, *KINDS])))
        self._schema(content.get("schema", SCHEMA))
        found = tuple(line for key in content if key in KINDS for line in self._lines(key))
        if not found:
            raise UsageError(f"{self.path}, line 1: nothing is required. Expected lines such as {EXAMPLE}. Kinds: {', '.join(KINDS)}.")
        self._check_twice(found)
        return Wanted(
            self.path,
            sha256,
            self._name(content.get("name", self.path.stem)),
            self._confidence(content.get("confidence", CONFIDENCE)),
            self._engines(content.get("engines", [])),
            self.places.get(("engines",), 1),
            found,
        )

    def _lines(self, key: str) -> Iterator[Line]:
        """The requirements of one kind: a table, or a list of them."""
        given, kind = self.content[key], KINDS[key]
        several = isinstance(given, list)
        if given == []:
            raise self._fault((key,), f"{key} is [], which requires nothing; expected {key} = {kind.example}, or leave the line out")
        for number, table in enumerate(given if several else [given]):
            place: Place = (key, number) if several else (key,)
            if not isinstance(table, dict):
                raise self._fault(place, f"{key} is {table!r}; expected {key} = {kind.example}, or a list of such tables")
            yield self._line(key, kind, table, place)

    def _line(self, key: str, kind: Kind, table: dict[str, Any], place: Place) -> Line:
        choices = [*kind.options, kind.side, *([ENGINE] if kind.per == "engine" else [])]
        for name in table:
            if name not in choices:
                raise self._fault((*place, name), f"{key}: {unknown('key', name, choices)}")
        for name in (kind.side, *(name for name, option in kind.options.items() if option.default is REQUIRED)):
            if name not in table:
                raise self._fault(place, f"{key} lacks {name}; expected {key} = {kind.example}")
        options = {
            name: self._value((*place, name), f"{key}: {name}", option.parse, table[name]) if name in table else option.default
            for name, option in kind.options.items()
        }
        limit = self._value((*place, kind.side), f"{key}: {kind.side}", kind.unit.parse, table[kind.side])
        engine = self._value((*place, ENGINE), f"{key}: engine", _text, table[ENGINE]) if ENGINE in table else None
        return Line(key, options, limit, engine, self._at(place))

    def _value(self, place: Place, what: str, parse: Any, given: object) -> Any:
        try:
            return parse(given)
        except ValueError as error:
            raise self._fault(place, f"{what}: {error}") from error

    def _check_twice(self, found: tuple[Line, ...]) -> None:
        seen: dict[tuple[object, ...], Line] = {}
        for line in found:
            same = seen.setdefault((line.kind, line.engine, *line.options.items()), line)
            if same is not line:
                raise UsageError(
                    f"{self.path}, line {line.number}: {line.name} is required on line {same.number} already. Keep one of them."
                )

    def _schema(self, given: object) -> None:
        if given != SCHEMA or isinstance(given, bool):
            raise self._fault(("schema",), f"schema is {given!r}; this version reads schema {SCHEMA}")

    def _name(self, given: object) -> str:
        return str(self._value(("name",), "name", _text, given))

    def _confidence(self, given: object) -> float:
        if isinstance(given, bool) or not isinstance(given, int | float) or not 0.5 < given < 1:
            raise self._fault(("confidence",), f"confidence is {given!r}; expected a number above 0.5 and below 1, such as {CONFIDENCE}")
        return float(given)

    def _engines(self, given: object) -> tuple[str, ...]:
        if not isinstance(given, list) or not all(isinstance(name, str) and name for name in given):
            raise self._fault(("engines",), f'engines is {given!r}; expected a list of names, such as ["ort-int8"]')
        return tuple(dict.fromkeys(given))

    def _fault(self, place: Place, reason: str) -> UsageError:
        return UsageError(f"{self.path}, line {self._at(place)}: {reason}")

    def _at(self, place: Place) -> int:
        """The line of a key, or of what holds it."""
        while place and place not in self.places:
            place = place[:-1]
        return self.places.get(place, 1)


def _text(given: object) -> str:
    if not isinstance(given, str) or not given.strip():
        raise ValueError(f"{given!r} is not a name")
    return given
