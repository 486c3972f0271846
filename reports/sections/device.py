"""The device: what it is, and the state the worker saw it in."""

from __future__ import annotations

from reports.format import flat
from reports.run import Run
from reports.sections.verdict import caveat
from reports.table import Section, table


def section(run: Run) -> Section:
    """The device and its observed state."""
    device = run.record.device
    identity = [
        ("Name", device.name),
        ("Kind", device.kind),
        ("Emulated", "yes: numerics only" if device.emulated else "no"),
        ("Simulated", "yes: no figure was measured" if device.simulated else "no"),
    ]
    observed = list(flat(device.observed))
    tables = [table("Identity", ("Property", "Value"), identity)]
    if observed:
        tables.append(table("Observed state", ("Property", "Value"), observed, note="Read by the worker on the device, in the run itself."))
    return Section("device", "Device", list(filter(None, [caveat(run.record)])), tables)
