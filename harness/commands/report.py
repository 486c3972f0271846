"""`harness report`: a saved run, rendered again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness import plugins
from harness.commands.options import Plugins, each
from harness.commands.requirements import Requirements, hold_against, rows_exit_code
from harness.errors import UsageError

EPILOG = "Example: harness report runs/my-run --format md"


def report(
    run: Annotated[Path, typer.Argument(help="a run folder")],
    format: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="html, md, json, junit, csv, parquet, latex, robustbench or mlbom (CycloneDX), repeatable [default: html, md]",
        ),
    ] = None,
    requirements: Requirements = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="with --format junit: what is undecided fails, instead of being skipped")
    ] = False,
    plugin: Plugins = None,
) -> None:
    """Render a saved run again. Prints the paths; with requirements, the run is held against them first."""
    plugins.load(plugin or ())
    from reports.render import render

    formats = each(format) or ("html", "md")
    if strict and "junit" not in formats:
        raise UsageError(f"--strict is about --format junit; got {', '.join(formats)}")
    record = None if requirements is None else hold_against(run, requirements)
    paths = render(run, formats, strict=strict)
    if record is not None:
        from reports.terminal import print_requirements

        print_requirements(record)
    for path in paths.values():
        print(path)
    if record is not None:
        raise typer.Exit(rows_exit_code(record))
