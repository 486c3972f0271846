"""`harness doctor`: what works on this computer, and how to get the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from harness.commands.options import AsJson

if TYPE_CHECKING:
    from rich.text import Text

    from harness.doctor import Finding

EPILOG = """
Exit codes: 0 a bench with its defaults can run · 4 it lacks something

Example: harness doctor --json
"""
STYLES = {"works": "green", "limited": "yellow", "absent": "yellow"}


def doctor(as_json: AsJson = False) -> None:
    """Say what works on this computer. Instructions, runtimes, extras, emulation, SSH, room, sensors, how steady its clock is."""
    from harness.doctor import as_dict, examine

    found = examine()
    if as_json:
        print(json.dumps(as_dict(found), indent=1))
    else:
        from rich.console import Console

        console = Console(soft_wrap=True)
        for topic, findings in found.items():
            console.print(f"\n[bold]{topic}[/bold]")
            for finding in findings:
                for line in _lines(finding):
                    console.print(line)
    if any(finding.essential and finding.state == "absent" for findings in found.values() for finding in findings):
        raise typer.Exit(4)


def _lines(finding: Finding) -> Iterator[Text]:
    """Name, state and what was found; what it means; what to do."""
    from rich.text import Text

    yield Text.assemble(f"  {finding.name:18}", (f"{finding.state:8}", STYLES[finding.state]), f" {finding.found}")
    if finding.meaning:
        yield Text(f"{'':29}{finding.meaning}", style="dim")
    if finding.remedy:
        yield Text(f"{'':29}-> {finding.remedy}")
