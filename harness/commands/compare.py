"""`harness compare`: finished runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import UsageError

EPILOG = """
Exit codes, with --fail-on: 0 nothing became worse by more than its limit · 1 something did · 3 that is open, or the runs are unlike

Example: harness compare runs/last-release runs/this --fail-on latency:5%,robust:2pt
"""


def compare(
    runs: Annotated[list[Path], typer.Argument(help="run folders, two or more")],
    out: Annotated[Path | None, typer.Option(help="folder for report.html and report.md [default: print Markdown]")] = None,
    fail_on: Annotated[
        str | None,
        typer.Option(help="what may become worse than in the first run, such as latency:5%,memory:10%,clean:1pt,robust:2pt"),
    ] = None,
    unlike: Annotated[bool, typer.Option("--unlike", help="with --fail-on: compare times and sizes of different devices too")] = False,
) -> None:
    """Put finished runs side by side; where they saw the same images, count the labels that differ."""
    from reports.compare import regression_section, render_comparison, to_text
    from reports.run import Run

    if len(runs) < 2:
        raise UsageError("one run has nothing to be compared with; give two run folders or more")
    names = [run.resolve().name for run in runs]
    if len(set(names)) < len(names):
        names = [str(run) for run in runs]
    if len(set(names)) < len(names):
        raise UsageError(f"a run is given twice: {', '.join(names)}")
    named = dict(zip(names, runs, strict=True))
    code, more = 0, []
    if fail_on is not None:
        from harness.requirements.regression import exit_code, parse_limits, regressions

        limits = parse_limits(fail_on)
        rows, rule = regressions({name: Run.open(run) for name, run in named.items()}, limits, unlike=unlike)
        code, more = exit_code(rows), [regression_section(rows, rule)]
    if out is None:
        print(to_text(named, more), end="")
    else:
        for path in render_comparison(named, out, more):
            print(path)
    if code:
        raise typer.Exit(code)
