"""A run folder -> report files, one per format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import unknown
from harness.records import RECORD
from reports.html import to_html
from reports.junit import to_junit
from reports.markdown import to_markdown
from reports.run import Run

FORMATS: dict[str, tuple[str, Callable[[Run], str]]] = {
    "html": ("report.html", to_html),
    "md": ("report.md", to_markdown),
    "json": (RECORD, lambda run: (run.folder / RECORD).read_text()),
    "junit": ("report.junit.xml", to_junit),
}


def render(run: Path, formats: Sequence[str]) -> dict[str, Path]:
    """Write the reports of a run folder into it, from what it holds alone.

    Args:
        run: the run folder.
        formats: names in `FORMATS`.

    Returns:
        Format -> the file written. `json` is the record itself, once it has been validated.

    Raises:
        UsageError: an unknown format, or not a run folder.
        UntrustedError: the record or a raw file is damaged.
    """
    for name in formats:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    opened = Run.open(run)
    return {name: _write(opened, *FORMATS[name]) for name in formats}


def _write(run: Run, file: str, text: Callable[[Run], str]) -> Path:
    target = run.folder / file
    if file == RECORD:
        return target
    temporary = target.with_name(f".{file}.tmp")
    temporary.write_text(text(run), encoding="utf-8")
    temporary.replace(target)
    return target
