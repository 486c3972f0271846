"""The device: what it is, what its profile declares of it, and the state the worker saw it in."""

from __future__ import annotations

from harness.records import DeviceRecord
from reports.elements import Cell, Section, Table, table
from reports.format import NONE, flat
from reports.run import Run
from reports.sections.verdict import caveat

READ = "Read by the worker on the device, in the run itself."


def section(run: Run) -> Section:
    """The device, where it differs from its profile, and its observed state."""
    device = run.record.device
    paragraphs = [text for text in (caveat(run.record), _agreement(device)) if text]
    identity = [
        ("Name", device.name),
        ("Kind", device.kind),
        ("Emulated", "yes: numerics only" if device.emulated else "no"),
        ("Synthetic", "yes: no figure was measured" if device.synthetic else "no"),
    ]
    observed = list(flat(device.observed))
    tables = [table("Identity", ("Property", "Value"), identity)]
    if device.mismatches:
        tables.append(_mismatches(device))
    if device.declared:
        tables.append(table("Declared in the profile", ("Property", "Value"), list(device.declared.items())))
    if device.before:
        tables.append(_states(device))
    if observed:
        tables.append(table("Observed state", ("Property", "Value"), observed, note=READ, fold=True))
    return Section("device", "Device", paragraphs, tables)


def _agreement(device: DeviceRecord) -> str:
    """Whether the device is the declared one; nothing where its state was not read."""
    if not device.before:
        return ""
    if device.mismatches:
        return (
            "The device is not as its profile declares it, or changed during the run: the measurement is INVALID. The remedies are below."
        )
    if not device.declared:
        return "The profile declares nothing of this device to hold it against; its state was the same before and after."
    return "The device is as its profile declares it, before and after."


def _mismatches(device: DeviceRecord) -> Table:
    """Every difference once, with the engines whose jobs saw it."""
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for one in device.mismatches:
        found.setdefault((one.what, one.declared, one.observed, one.remedy), []).append(one.engine)
    return table(
        "Declared against observed",
        ("Property", "Declared", "Observed", "Remedy", "Seen by"),
        [
            (what, declared, Cell(observed, "bad"), Cell(remedy), ", ".join(engines))
            for (what, declared, observed, remedy), engines in found.items()
        ],
    )


def _states(device: DeviceRecord) -> Table:
    """The state before, and after where it differs."""
    before, after = dict(flat(device.before)), dict(flat(device.after))
    rows = [
        (name, before.get(name, NONE), after.get(name, NONE) if after.get(name) != before.get(name) else "the same")
        for name in dict.fromkeys((*before, *after))
    ]
    return table("State before and after", ("Property", "Before the first engine", "After the last"), rows, fold=True)
