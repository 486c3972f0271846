"""What was not run, and what therefore cannot be concluded."""

from __future__ import annotations

from collections.abc import Iterator

from harness.records import RunRecord
from reports.run import Run
from reports.table import Section, table

QUERY_ATTACKS = ("square", "hopskipjump")


def section(run: Run) -> Section:
    """The limits of this run."""
    return Section("scope", "What was not run", [], [table("Limits of this run", ("Not run", "So"), not_run(run.record))])


def not_run(record: RunRecord) -> Iterator[tuple[str, str]]:
    """Pairs (what was left out, what follows from it)."""
    names = {attack.name.lower() for attack in record.attacks}
    sources = sorted({attack.source for attack in record.attacks})
    if not names:
        yield "Attacks of any kind", "the figures say nothing about robustness."
    elif not any(query in name for query in QUERY_ATTACKS for name in names):
        yield (
            "Query attacks on the engine itself (Square, HopSkipJump)",
            "a claim can be refuted here, never confirmed: an engine may resist transferred images and still be easy to attack.",
        )
    if len(sources) == 1:
        yield (
            f"Attacks made on anything but: {sources[0]}",
            "images tuned to another model or to the quantized graph may fool the engine more often.",
        )
    if len({attack.eps_exact for attack in record.attacks if attack.norm == "Linf"}) == 1:
        yield "More than one radius", "the security curve has one attacked point, and says nothing between or beyond."
    if not any(engine.flavour.startswith("trt-") for engine in record.engines):
        yield "TensorRT flavours (trt-fp16, trt-int8, …)", "nothing here speaks for a GPU engine."
    if record.device.emulated:
        yield "Latency, throughput, load time and memory in use", "they need the device itself."
    if record.tier != "qualify":
        yield "Repeated builds and repeated attack seeds (tier qualify)", "the spread between builds and between seeds is not known."
    yield "Energy", "no power sensor was read, so no figure is given."
