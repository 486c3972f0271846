"""`harness history`: a figure over many runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = """
Metrics: robust, gap, clean, latency, memory, size

Example: harness history runs --metric robust,latency --out history
"""


def history(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="the folder that holds the run folders")],
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="what to follow, repeatable [default: robust, gap, clean, latency]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder for report.html, with figures, and report.md [default: print Markdown]")] = None,
) -> None:
    """Draw a network's figures from run to run. They are its robustness, accuracy and cost; only runs that are alike are joined."""
    from harness.settings import REPORT_FILES, check_output
    from reports.history import render_history, to_text

    if out is not None:
        check_output(out, REPORT_FILES)

    metrics = [name.strip() for word in metric or ["robust,gap,clean,latency"] for name in word.split(",")]
    if out is None:
        print(to_text(folder, metrics), end="")
        return
    for path in render_history(folder, metrics, out):
        print(path)
