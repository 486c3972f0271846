"""On which line of a TOML file each key stands, so that an error can say so: Python's reader keeps no positions.

Only for text that `tomllib` has accepted: nothing is checked here again.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

Path = tuple[str | int, ...]  # keys, and positions in lists, from the top

_TOKEN = re.compile(
    r'(?P<skip>[ \t\r]+|\#[^\n]*)|(?P<end>\n)|(?P<text>"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\')'
    r'|(?P<mark>[\[\]{},=.])|(?P<bare>[^\s\[\]{},=.#"\']+)',
    re.DOTALL,
)
_CLOSE = (",", "]", "}")


def lines(text: str) -> dict[Path, int]:
    """Path of each key, list entry and table -> its line, counted from 1."""
    return _Reader(text).found


class _Reader:
    def __init__(self, text: str) -> None:
        self.found: dict[Path, int] = {}
        self._tokens = list(_tokens(text))
        self._at = 0
        self._last: dict[Path, int] = {}  # of each list of tables, the position of the table that is being filled
        self._document()

    def _document(self) -> None:
        table: Path = ()
        while self._skip():
            if self._word == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Path:
        """`[a.b]` or `[[a.b]]`: the path of the table that begins."""
        line, several = self._line, False
        self._take()
        if self._word == "[":
            several = True
            self._take()
        keys = self._keys()
        path = self._resolved(keys[:-1])
        path = (*path, keys[-1])
        self._note(path, line)
        if several:
            self._last[path] = self._last.get(path, -1) + 1
            path = (*path, self._last[path])
            self._note(path, line)
        while self._at < len(self._tokens) and self._word == "]":
            self._take()
        return path

    def _pair(self, table: Path) -> None:
        """`a.b = value`."""
        line = self._line
        path = table
        for key in self._keys():
            path = (*path, key)
            self._note(path, line)
        self._take()  # the sign
        self._value(path)

    def _value(self, path: Path) -> None:
        self._skip()
        if self._word == "[":
            self._take()
            count = 0
            while self._skip(",") and self._word != "]":
                self._note((*path, count), self._line)
                self._value((*path, count))
                count += 1
            self._take()
        elif self._word == "{":
            self._take()
            while self._skip(",") and self._word != "}":
                self._pair(path)
            self._take()
        else:
            while self._at < len(self._tokens) and self._kind != "end" and self._word not in _CLOSE:
                self._take()

    def _keys(self) -> list[str]:
        """A dotted key; stands at what follows it."""
        keys = []
        while self._word not in ("=", "]"):
            word = self._take()
            if word != ".":
                keys.append(next(iter(tomllib.loads(f"{word} = 0"))))
        return keys

    def _resolved(self, keys: list[str]) -> Path:
        path: Path = ()
        for key in keys:
            path = (*path, key)
            if path in self._last:
                path = (*path, self._last[path])
        return path

    def _note(self, path: Path, line: int) -> None:
        self.found.setdefault(path, line)

    def _skip(self, also: str = "\n") -> bool:
        """Go to the next token that is no line end (nor `also`); whether there is one."""
        while self._at < len(self._tokens) and (self._kind == "end" or self._word == also):
            self._at += 1
        return self._at < len(self._tokens)

    def _take(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1][1]

    @property
    def _kind(self) -> str:
        return self._tokens[self._at][0]

    @property
    def _word(self) -> str:
        return self._tokens[self._at][1]

    @property
    def _line(self) -> int:
        return self._tokens[self._at][2]


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """Kind, text and line of each token but blanks and comments."""
    line = 1
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        if kind != "skip":
            yield kind, match[0], line
        line += match[0].count("\n")
