"""`harness init-requirements`, and what `bench` and `report` do with a requirements file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devices.worker.files import write_whole
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.records import RunRecord

EPILOG = "Example: harness init-requirements runs/my-run --out qualification.toml"
Requirements = Annotated[
    Path | None, typer.Option(help="qualification.toml: what the engines must meet; exit 1 where they do not (docs/requirements.md)")
]


def init_requirements(
    run: Annotated[Path, typer.Argument(help="the folder of a finished run")],
    out: Annotated[Path, typer.Option(help="file to write; must not exist")] = Path("qualification.toml"),
) -> None:
    """Draft a requirements file from a finished run. It holds what the run meets, to be made your own."""
    from harness.requirements.judge import open_finished
    from harness.requirements.write import draft
    from harness.settings import check_file

    check_file("--out", out)
    text = draft(open_finished(run))
    if out.exists():
        raise UsageError(f"--out {out} exists. Choose another name, or remove it.")
    write_whole(out, text + "\n")  # a part of it, left by a full disk, would be in the way of the next attempt
    print(out)


def hold_against(run: Path, file: Path) -> RunRecord:
    """Judge a finished run by a requirements file and keep the rows in its record. Raises as `harness.requirements.judge.qualify`."""
    from harness.requirements.file import read_requirements
    from harness.requirements.judge import qualify

    record = qualify(run, read_requirements(file))
    record.save(run)
    return record


def rows_exit_code(record: RunRecord) -> int:
    """0 where every requirement is met, 1 where one is not, 3 where one is undecided or was not measured."""
    outcomes = {str(row.outcome) for row in record.requirements}
    return 1 if "FAIL" in outcomes else 3 if outcomes - {"PASS"} else 0
