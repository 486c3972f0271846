"""What was not run, and what therefore cannot be concluded."""

from __future__ import annotations

from collections.abc import Iterator

from harness.records import RunRecord
from harness.sources import SOURCES, of_run
from reports.elements import Item, Listing, Section
from reports.run import GATE_SOURCE, Run

WHOLE = "autoattack"  # the standard version, which holds the targeted Auto-PGD
NOT_APPLICABLE = {
    "S2": "it has no quantizers that could be left out: there is nothing to attack that S1 did not.",
    "S3": "no engine of this run has a graph of its own (quantizers, or a file that was given) that can be read back.",
    "S5": "no engine of this run has a graph of its own (quantizers, or a file that was given) that can be read back.",
    "S7": "no engine of this run has a graph of its own that can be read back, or the twin's weights are as coarse themselves.",
}  # what it means that a run which has the source made no set of it


def section(run: Run) -> Section:
    """The limits of this run."""
    items = [Item(what, so) for what, so in not_run(run.record)]
    return Section("scope", "What was not measured", lists=[Listing("", items)], sheet=True, span=2)


def not_run(record: RunRecord) -> Iterator[tuple[str, str]]:
    """Pairs (what was left out, what follows from it)."""
    attacks = [attack for attack in record.attacks if attack.source != GATE_SOURCE]
    used = {attack.source for attack in attacks}
    if attacks:
        has = {source.id for source in of_run(record.settings.get("sources") or (), record.tier)}
        for source in SOURCES.values():
            if source.id not in used | {GATE_SOURCE} and not (source.id == "S6" and record.replays):
                why = NOT_APPLICABLE.get(source.id) if source.id in has else None
                yield f"Attacks on {source.title} ({source.id})", why or f"{source.absent}."
        if not any("apgd-scaled" in attack.name for attack in attacks):
            yield "S3 again with the logits divided by a temperature", "saturated logits may hide gradients from the attacks."
        if not any("apgd-t" in attack.name or WHOLE in attack.name for attack in attacks):
            yield "Targeted Auto-PGD (APGD-T)", "it is often a little stronger: the true worst case may be lower, of twin and engine alike."
    else:
        yield "Attacks of any kind", "the figures say nothing about robustness."
    if len({attack.eps_exact for attack in attacks if attack.norm == "Linf"}) == 1:
        yield "More than one radius", "the security curve has one attacked point, and says nothing between or beyond."
    if not any("tensorrt" in engine.runtime for engine in record.engines):
        yield "TensorRT flavours (trt-fp16, trt-int8, …)", "nothing here speaks for a GPU engine."
    if record.device.emulated:
        yield "Latency, throughput, load time and memory in use", "they need the device itself."
    once = {
        "builds": not any(engine.build for engine in record.engines),
        "attack seeds": len({attack.seed for attack in attacks}) < 2,
    }
    if repeated := [what for what, missing in once.items() if missing]:
        yield f"Repeated {' and repeated '.join(repeated)}", f"the spread between {' and between '.join(repeated)} is not known."
    if not any(latency.energy for engine in record.engines for latency in engine.latency.values()):
        yield "Energy", "no power sensor was read, so no figure is given."
