"""What stands over a report."""

from __future__ import annotations

from harness.records import RunRecord
from reports.format import clean


def title(record: RunRecord) -> str:
    """What was qualified, on what."""
    return f"{clean(record.model.name)} on {clean(record.device.name)}"


def subtitle(record: RunRecord) -> str:
    """Data, n, tier, seed, date."""
    data = f"{clean(record.data.name)}, {record.data.n:,} images attacked, {record.data.n_clean:,} clean"
    return f"{data} · tier {record.tier} · seed {record.seed} · {clean(record.created)} · edge-harness {clean(record.harness_version)}"
