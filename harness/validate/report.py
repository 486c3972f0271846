"""The answers as text: lines for the terminal, a table in Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from harness.validate.check import Check, Finding

HEAD = """# External checks

Written by `{command}` on {where}. Each row is something that others published, with this program's own figure on its own networks; a row
that is not confirmed says nothing of the networks it was published for. Intervals are 95 % Wilson unless they say otherwise.

| published | figure | here | outcome |
|---|---|---|---|
"""


def line(check: Check, finding: Finding) -> str:
    """One answer for the terminal."""
    published = f"  published: {check.statement} ({check.source}): {check.figure}"
    return f"{check.name}: {finding.outcome}\n{published}\n  here: {finding.ours}\n  {finding.why}"


def markdown(rows: Mapping[Check, Finding], command: str, where: str) -> str:
    """The whole table."""
    cells = (
        (f"{check.statement} ({check.source})", check.figure, f"{finding.ours}. {finding.why}", f"**{finding.outcome}**")
        for check, finding in rows.items()
    )
    return HEAD.format(command=command, where=where) + "".join(f"| {' | '.join(c.replace('|', '/') for c in row)} |\n" for row in cells)
