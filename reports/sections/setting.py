"""On what: the device, the runtimes, the network and the images, in a few lines."""

from __future__ import annotations

from collections.abc import Iterator

from harness.records import RunRecord, named_part
from reports.elements import Section, table
from reports.format import count, digest
from reports.run import Run


def section(run: Run) -> Section:
    """What a reader must know to say whether the figures are about their own case."""
    rows = list(_rows(run.record))
    return Section("setting", "Device and runtime", [], [table("Measured on", ("What", "Which"), rows)], sheet=True, span=1)


def _rows(record: RunRecord) -> Iterator[tuple[str, str]]:
    device, model, data = record.device, record.model, record.data
    words = [word for word, so in (("emulated", device.emulated), ("synthetic", device.synthetic)) if so]
    yield "Device", f"{device.name} ({', '.join((device.kind, *words))})"
    for key in ("cpu_model", "gpu", "power_mode"):
        if value := device.observed.get(key) or device.before.get(key):
            yield key.replace("_", " ").replace("cpu", "CPU").replace("gpu", "GPU").removesuffix(" model"), named_part(value)
    if threads := device.observed.get("threads"):
        yield "Threads", str(threads)
    if runtimes := dict.fromkeys(f"{engine.runtime} {engine.runtime_version or ''}".strip() for engine in record.engines):
        yield "Runtime", ", ".join(runtimes)
    yield "Network", f"{model.name}, {count(model.parameters)} parameters, {digest(model.sha256)}"
    yield "Images", f"{data.name}: {count(data.n)} attacked, {count(data.n_clean)} clean"
    yield from (("Remark", remark) for remark in (*model.remarks, *data.remarks))
    radii = dict.fromkeys(claim.eps_exact for claim in record.claims)
    if radii:
        claimed = "the network's own claim" if model.claimed_eps else "assumed: no --eps was given"
        yield "Radius ε", ", ".join(radii) + ("" if record.settings.get("eps") else f" ({claimed})")
    yield "Tier, seed", f"{record.tier}, {record.seed}"
