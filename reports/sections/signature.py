"""Where the reviewers sign, and what exactly they sign."""

from __future__ import annotations

from reports.elements import Section, table
from reports.run import Run

ROLES = ("Engineer", "Safety reviewer")
CHOICES = "☐ accepted  ☐ with conditions  ☐ rejected"


def section(run: Run) -> Section | None:
    """Two empty lines, bound to the record by its hash; none under a record that could not be read whole."""
    if run.lost:
        return None
    text = f"Signed is record.json with SHA-256 {run.sha256}; conditions go below."
    lines = table("Decision", ("Role", "Name", "Decision", "Date", "Signature"), [(role, "", CHOICES, "", "") for role in ROLES])
    return Section("signature", "Signatures", [text], [lines], sheet=True)
