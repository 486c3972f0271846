"""A run folder -> report files, in as many forms as there are readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.errors import UntrustedError, unknown
from harness.records import RECORD
from reports.formats.data import to_csv, to_parquet
from reports.formats.junit import to_junit
from reports.formats.latex import to_latex
from reports.formats.mlbom import to_mlbom
from reports.formats.robustbench import to_robustbench
from reports.html import to_html
from reports.markdown import to_markdown
from reports.run import Run


@dataclass(frozen=True)
class Format:
    """One form of a report.

    Attributes:
        about: what it is, for `--help`.
        file: what it writes, in the run folder; a folder where it writes several.
        make: a run -> file in the run folder -> what it holds.
    """

    about: str
    file: str
    make: Callable[[Run], Mapping[str, str | bytes]]


def _one(about: str, file: str, text: Callable[[Run], str]) -> Format:
    return Format(about, file, lambda run: {file: text(run)})


FORMATS: dict[str, Format] = {
    "html": _one("the report", "report.html", to_html),
    "md": _one("the report as Markdown", "report.md", to_markdown),
    "json": Format("the record itself, checked", RECORD, lambda _: {}),
    "junit": _one("claims, requirements, engines and gates as tests", "report.junit.xml", to_junit),
    "csv": Format("tables, a file each", "tables", to_csv),
    "parquet": Format("the same with every call and image", "tables", to_parquet),
    "latex": _one("tables of claims and engines", "report.tex", to_latex),
    "robustbench": _one("model_info entries", "robustbench.json", to_robustbench),
    "mlbom": _one("CycloneDX bill of materials", "mlbom.cdx.json", to_mlbom),
}


STRICT = _one(FORMATS["junit"].about, FORMATS["junit"].file, partial(to_junit, strict=True))


def render(run: Path, formats: Sequence[str], *, strict: bool = False) -> dict[str, Path]:
    """Write the reports of a run folder into it, from what it holds alone.

    Args:
        run: the run folder.
        formats: names in `FORMATS`.
        strict: in JUnit what is undecided fails, instead of being skipped.

    Returns:
        Format -> the file written, or the folder of several. `json` is the record itself, once it has been validated.

    Raises:
        UsageError: an unknown format, or not a run folder.
        UntrustedError: the record or a raw file is damaged. What could still be read has been written, and says so.
    """
    for name in formats:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    opened = Run.open_what_is_left(run)
    written = {}
    for name in formats:
        form = STRICT if strict and name == "junit" else FORMATS[name]
        content = opened.attempt(form.file, partial(form.make, opened), None)
        if content is not None:
            written[name] = _write(opened.folder, form.file, content)
    if opened.faults:
        names = ", ".join(dict.fromkeys(map(str, written.values()))) or "nothing"
        raise UntrustedError(f"{next(iter(opened.faults))} What could still be read was written, and says so: {names}")
    return written


def _write(folder: Path, form: str, content: Mapping[str, str | bytes]) -> Path:
    for file, text in content.items():
        target = folder / file
        target.parent.mkdir(exist_ok=True)
        temporary = target.with_name(f".{target.name}.tmp")
        temporary.write_bytes(text if isinstance(text, bytes) else text.encode())
        temporary.replace(target)
    return folder / form
