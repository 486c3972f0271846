"""`harness selftest`: planted faults that the audit must catch, and sound deployments that must pass."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options import AsJson
from harness.errors import unknown

if TYPE_CHECKING:
    from harness.selftest.deployment import Deployment

EPILOG = """
Exit codes: 0 every fault is caught by what its file names, and every sound deployment passes · 1 otherwise

Example: harness selftest --quick --only bgr --only own_engine
"""


def selftest(
    quick: Annotated[bool, typer.Option("--quick", help="fewer images and steps; what is the same in every run is made once")] = False,
    only: Annotated[list[str] | None, typer.Option(help="this deployment alone, repeatable [default: all]")] = None,
    write: Annotated[Path | None, typer.Option(help="write the table here as Markdown, such as docs/selftest.md")] = None,
    as_json: AsJson = False,
) -> None:
    """Plant faults in small deployments, see what notices. Each goes through the real stages, gates and judge."""
    from devices.worker.environment import describe_machine
    from harness.selftest.deployment import deployments
    from harness.selftest.run import selftest as run
    from harness.selftest.table import line, markdown, summary
    from harness.settings import check_file

    check_file("--write", write)
    wanted = _chosen({one.name: one for one in deployments()}, only)
    out = sys.stderr
    rows = run(wanted, quick=quick, on_row=lambda row: print(line(row), file=out if as_json else sys.stdout, flush=True))
    if write is not None:
        write.write_text(markdown(rows, str(describe_machine()["cpu_model"]), quick=quick), encoding="utf-8")
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    print(summary(rows), file=out if as_json else sys.stdout)
    if not all(row.ok for row in rows):
        raise typer.Exit(1)


def _chosen(there: dict[str, Deployment], only: list[str] | None) -> list[Deployment]:
    """The deployments of those names, in the table's order; all where none is named. Raises UsageError: there is no such one."""
    for name in only or ():
        if name not in there:
            raise unknown("deployment", name, there)
    return [one for name, one in there.items() if not only or name in only]
