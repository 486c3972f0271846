"""What was not run, and what therefore cannot be concluded."""

from __future__ import annotations

from collections.abc import Iterator

from harness.records import RunRecord
from harness.sources import SOURCES
from reports.elements import Section, table
from reports.run import GATE_SOURCE, Run

NOT_BUILT = {
    "Attacks on the compressed twin without its quantizers (S2)": "the smoother gradients of its weights may find images that "
    "quantization hides.",
    "Differential attacks (S5: DIVA)": "images made to part twin and engine may part them more often.",
    "Replay of images that fool one engine on the others (S6)": "whether the engines share their weaknesses is not known.",
}  # sources that no run has yet


def section(run: Run) -> Section:
    """The limits of this run."""
    return Section("scope", "What was not run", [], [table("Limits of this run", ("Not run", "So"), not_run(run.record))])


def not_run(record: RunRecord) -> Iterator[tuple[str, str]]:
    """Pairs (what was left out, what follows from it)."""
    attacks = [attack for attack in record.attacks if attack.source != GATE_SOURCE]
    used = {attack.source for attack in attacks}
    if attacks:
        yield from NOT_BUILT.items()
        for source in SOURCES.values():
            if source.needed != "no engine" and source.id not in used:
                yield f"Attacks on {source.title} ({source.id})", f"{source.absent}."
        yield "S3 again with the logits divided by a temperature", "saturated logits may hide gradients from the attacks."
        if not any("apgd-t" in attack.name for attack in attacks):
            yield "Targeted Auto-PGD (APGD-T)", "it is often a little stronger: the true worst case may be lower, of twin and engine alike."
    else:
        yield "Attacks of any kind", "the figures say nothing about robustness."
    if len({attack.eps_exact for attack in attacks if attack.norm == "Linf"}) == 1:
        yield "More than one radius", "the security curve has one attacked point, and says nothing between or beyond."
    if not any("tensorrt" in engine.runtime for engine in record.engines):
        yield "TensorRT flavours (trt-fp16, trt-int8, …)", "nothing here speaks for a GPU engine."
    if record.device.emulated:
        yield "Latency, throughput, load time and memory in use", "they need the device itself."
    if any(engine.build for engine in record.engines):
        yield "Repeated attack seeds", "the spread between seeds is not known."
    else:
        yield "Repeated builds and repeated attack seeds", "the spread between builds and between seeds is not known."
    if not any(latency.energy for engine in record.engines for latency in engine.latency.values()):
        yield "Energy", "no power sensor was read, so no figure is given."
