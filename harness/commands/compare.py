"""`harness compare`: finished runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import UsageError

EPILOG = "Example: harness compare runs/host runs/jetson --out runs/both"


def compare(
    runs: Annotated[list[Path], typer.Argument(help="run folders, two or more")],
    out: Annotated[Path | None, typer.Option(help="folder for report.html and report.md [default: print Markdown]")] = None,
) -> None:
    """Put finished runs side by side; where they saw the same images, count the labels that differ."""
    from reports.compare import render_comparison, to_text

    if len(runs) < 2:
        raise UsageError("one run has nothing to be compared with; give two run folders or more")
    names = [run.resolve().name for run in runs]
    if len(set(names)) < len(names):
        names = [str(run) for run in runs]
    if len(set(names)) < len(names):
        raise UsageError(f"a run is given twice: {', '.join(names)}")
    named = dict(zip(names, runs, strict=True))
    if out is None:
        print(to_text(named), end="")
    else:
        for path in render_comparison(named, out):
            print(path)
