"""The command that made a run, as it would be typed again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.records import RunRecord

FOLDERS = ("--out", "--resume")  # of a folder that exists by now


def command(record: RunRecord, options: Mapping[str, str] | None = None) -> list[str]:
    """The words of the command without the folder that holds its run, with `options` in place of what it said of them."""
    all_options = dict(options or {})
    words = list(_without(record.command, {*FOLDERS, *all_options}))
    return [*words, *(word for option in all_options.items() for word in option)]


def _without(words: list[str], options: set[str]) -> Iterator[str]:
    """The words but for `options` and their values."""
    rest = iter(words)
    for word in rest:
        name, equals, _ = word.partition("=")
        if name not in options:
            yield word
        elif not equals:
            next(rest, None)
