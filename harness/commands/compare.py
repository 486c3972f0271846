"""`harness compare`: finished runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import UsageError

EPILOG = """
Exit codes: 0 the verdicts are the same and, with --fail-on, nothing became worse by more than its limit
· 1 a verdict or a figure became worse · 3 a verdict became another one or, with --fail-on, a figure is open or the runs are unlike

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
    """Put finished runs side by side. Where they saw the same images, the labels that differ are counted."""
    from harness.settings import REPORT_FILES, check_output
    from reports.compare import changed_verdict, regression_section, render_comparison, to_text
    from reports.run import Run

    if out is not None:
        check_output(out, REPORT_FILES)
    if len(runs) < 2:
        raise UsageError("one run has nothing to be compared with; give two run folders or more")
    names = [run.resolve().name for run in runs]
    if len(set(names)) < len(names):
        names = [str(run) for run in runs]
    if len(set(names)) < len(names):
        raise UsageError(f"a run is given twice: {', '.join(names)}")
    named = dict(zip(names, runs, strict=True))
    opened = {name: Run.open(run) for name, run in named.items()}
    codes, more = {changed_verdict(list(opened.values()))}, []
    if fail_on is not None:
        from harness.requirements.regression import exit_code, parse_limits, regressions

        limits = parse_limits(fail_on)
        rows, rule = regressions(opened, limits, unlike=unlike)
        codes.add(exit_code(rows))
        more = [regression_section(rows, rule)]
    if out is None:
        print(to_text(named, more), end="")
    else:
        for path in render_comparison(named, out, more):
            print(path)
    if code := 1 if 1 in codes else max(codes):
        raise typer.Exit(code)
