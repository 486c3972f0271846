"""What stands over a report."""

from __future__ import annotations

from harness.records import RunRecord
from reports.format import clean, several
from reports.run import Run
from reports.sections.verdict import tag


def head(run: Run) -> tuple[str, str, str]:
    """Title, subtitle and tag of a run's report; of a newer record that does not tell them, what stands in their place."""
    record = run.record
    titled = run.attempt("title", lambda: title(record), f"A run in {clean(run.folder.resolve().name)}")
    return (
        titled,
        run.attempt("subtitle", lambda: subtitle(record), ""),
        run.attempt("mark of the device", lambda: tag(record), "DEVICE NOT READ"),
    )


def title(record: RunRecord) -> str:
    """What was qualified, on what."""
    return f"{clean(record.model.name)} on {clean(record.device.name)}"


def subtitle(record: RunRecord) -> str:
    """Data, n, tier, seed, date."""
    data = f"{clean(record.data.name)}, {several(record.data.n, 'image')} attacked, {record.data.n_clean:,} clean"
    return f"{data} · tier {record.tier} · seed {record.seed} · {clean(record.created)} · edge-harness {clean(record.harness_version)}"
