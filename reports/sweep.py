"""A sweep as a report: one row per network, what it cost, what it bought on the device, and which to take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from markupsafe import Markup

from harness.sweep.record import CellRow, EngineRow, SweepRecord
from reports import fronts
from reports.elements import Cell, Section, Table, table
from reports.format import NONE, clean, counted, estimate, factor, milliseconds, percent, several, size
from reports.html import page
from reports.markdown import document
from reports.sections.telemetry import INVALID
from reports.sections.verdict import TONES

NOTHING = 0.1  # a ratio within this of 1 is no gain: steadiness of a timing is only asked for to 10 %
GAMMAS = {
    "parameters": "γ parameters", "nonzero": "γ non-zero", "weight_bits": "γ bits", "file_bytes": "γ file", "macs": "γ MACs",
    "macs_nonzero": "γ non-zero MACs",
}  # fmt: skip
SPARSITY = {"irregular": "irregular sparsity", "filter": "filter sparsity", "column": "column sparsity", "2:4": "2:4 sparsity"}


def render_sweep(folder: Path) -> list[Path]:
    """Write report.html and report.md of the sweep in `folder`; returns them.

    Raises:
        UsageError, UntrustedError: see `SweepRecord.load`.
    """
    record = SweepRecord.load(folder)
    verdict, *others = sections(record)
    drawn = {fronts.KEY: [(Markup(f.svg), f.caption, f.fold) for f in fronts.figures(record.fronts, tag(record))]}  # noqa: S704 matplotlib escapes its texts
    title, subtitle = f"Sweep {clean(record.name)}", _subtitle(record)
    html = page(
        title=title, subtitle=subtitle, tag=tag(record), answer=title, tone="", verdict=verdict, sections=others, figures=drawn
    )  # fmt: skip
    texts = {"report.html": html, "report.md": document(title, subtitle, [verdict, *others], tag(record))}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def tag(record: SweepRecord) -> str:
    """What every chapter must say about the device."""
    return ", ".join(word for word, so in (("SYNTHETIC", record.device.synthetic), ("EMULATED", record.device.emulated)) if so)


def sections(record: SweepRecord) -> list[Section]:
    """What every format shows; the first is the answer."""
    return [
        Section("verdict", "Answer", list(answer(record)), [_networks(record), *_unfinished(record)]),
        Section("size", "What compression removed", [SIZE], [_sizes(record)]),
        Section("engines", "What it bought on the device", [*gains(record), *invalid(record)], [_engines(record)]),
        fronts.section(record.fronts),
        Section("runs", "Where it is", [f"Finished results are kept in {clean(record.cache)}."], [_places(record)]),
    ]


SIZE = (
    "γ is the parent's count over the network's, counted on the weights that were written, never taken from the rate that was asked for. "
    "γ bits is of the bits that store the weights, a mask of one bit per weight included where zeros are left out. "
    "A ratio of another architecture than the parent's (distillation) compares two networks, not a compression of one."
)


def answer(record: SweepRecord) -> Iterator[str]:
    """The sweep in a few sentences."""
    finished = [cell for cell in record.cells if cell.status == "finished"]
    yield f"{len(finished)} of {several(len(record.cells), 'network')} finished."
    if left := [
        f"{cell.label}, {engine.flavour} ({engine.verdict or 'no verdict'})"
        for cell in finished
        for engine in cell.engines
        if not engine.sound
    ]:
        yield f"No candidates, since their figures are not to be relied on: {'; '.join(left)}. Each run's own report says why."
    for front in record.fronts:
        yield f"{fronts.title(front)}: {fronts.chosen(front)}."
    if record.device.synthetic:
        yield "SYNTHETIC: this device is made up; none of its times was measured."
    if record.device.emulated:
        yield "EMULATED: numerics only; latency and memory in use are withheld."


def gains(record: SweepRecord) -> Iterator[str]:
    """What each compression bought in latency, in words: one sentence per kind of gain."""
    found: dict[str, list[str]] = {}
    for cell in record.cells:
        for engine in cell.engines:
            if (ratio := latency_ratio(engine)) is None:
                continue
            words = "bought nothing in" if abs(ratio - 1) <= NOTHING else "shortened" if ratio > 1 else "lengthened"
            found.setdefault(f"{kind(cell)} {words} latency", []).append(f"{cell.label} with {engine.flavour} {times(ratio)}")
    for words, examples in found.items():
        yield f"{words[:1].upper()}{words[1:]}: {'; '.join(examples)}."
    if found:
        yield (
            f"Each against the same engine of the parent, at the smallest batch that was timed; within {NOTHING:.0%} of 1 counts as "
            "nothing, since a timing is only asked to be steady to that."
        )


def invalid(record: SweepRecord) -> Iterator[str]:
    """Why latencies were left out: each reason once, with the engines it concerns."""
    found: dict[str, list[str]] = {}
    for cell in record.cells:
        for engine in cell.engines:
            if engine.latency_invalid:
                found.setdefault(engine.latency_invalid, []).append(f"{cell.label} with {engine.flavour}")
    for reason, engines in found.items():
        whose = f"{several(len(engines), 'engine')} do not count ({'; '.join(engines)})"
        yield f"{INVALID}: latencies of {whose}: {reason}. Measure again: --remeasure."


def kind(cell: CellRow) -> str:
    """What was done to the network, as the subject of a sentence."""
    return SPARSITY[cell.pattern] if cell.pattern in SPARSITY else str(cell.method)


def latency_ratio(engine: EngineRow) -> float | None:
    """The parent's median latency over this engine's, at the smallest batch of this one; None where the parent's does not count there."""
    ratios = engine.against_parent.latency if engine.against_parent else {}
    return ratios.get(min(engine.latency_ms, key=int)) if engine.latency_ms else None


def times(ratio: float | None) -> str:
    """A ratio: 1.0 -> `1.00x`."""
    return NONE if ratio is None else f"{factor(ratio)}x"


def _subtitle(record: SweepRecord) -> str:
    device, when = clean(record.device.name), clean(record.created)
    return f"on {device} · tier {record.tier} · executor {record.executor} · {when} · edge-harness {clean(record.harness_version)}"


def _networks(record: SweepRecord) -> Table:
    return table(
        "Networks",
        ("Network", "Made by", "Epochs", "ε", "Clean", "Robust, worst case", "Verdict of its engines", *GAMMAS.values()),
        [
            (
                cell.label,
                made_by(cell),
                NONE if cell.epochs is None else str(cell.epochs),
                cell.eps,
                counted(cell.clean),
                counted(cell.robust),
                _verdict(cell),
                *gammas(cell),
            )
            for cell in record.cells
        ],
        numbers=(2, 3, 4, 5, *range(7, 7 + len(GAMMAS))),
        note="Clean and robust: the network itself (float32), with 95 % Wilson intervals. Robust: right when clean and under every "
        "attack of that radius. The verdict says whether the engines keep that robustness, not whether there is any. Epochs: those "
        "that made it from its parent.",
    )


def made_by(cell: CellRow) -> str:
    """Method, rate, student, seed of a network."""
    if cell.method is None:
        return "the parent"
    return " ".join(str(part) for part in (cell.method, cell.rate, cell.pattern, cell.student) if part) + f", seed {cell.seed}"


def gammas(cell: CellRow) -> list[str]:
    """The compression ratios, by every way of counting."""
    return [NONE if cell.gamma is None else f"{cell.gamma[way]:.2f}" for way in GAMMAS]


def _verdict(cell: CellRow) -> Cell:
    if cell.status != "finished":
        return Cell(cell.status.upper(), "bad" if cell.status == "failed" else "warn")
    return Cell(NONE) if cell.verdict is None else Cell(cell.verdict, TONES[cell.verdict])


def _unfinished(record: SweepRecord) -> list[Table]:
    rows = [(cell.label, Cell(cell.status, "bad" if cell.error else "warn"), cell.error or NONE) for cell in record.cells if not cell.run]
    return [table("Not finished", ("Network", "Status", "Why"), rows, note="Start the sweep again to go on.")] if rows else []


def _sizes(record: SweepRecord) -> Table:
    ways = list(GAMMAS)
    names = ("Parameters", "Non-zero", "Bits", "File", "MACs", "Non-zero MACs")
    return table(
        "Counted on the network",
        ("Network", *names),
        [
            (cell.label, *(NONE if cell.size is None else _amount(way, getattr(cell.size, way)) for way in ways))
            for cell in record.cells
        ],
        numbers=range(1, 7),
        note="Bits: of each tensor all entries at the bits that tell its levels apart, or, where that is less, those that are not zero and "
        "a mask of one bit per entry. MACs: multiply-accumulates for one image.",
    )  # fmt: skip


def _amount(way: str, value: int) -> str:
    return size(value) if way == "file_bytes" else f"{value:,}"


def _engines(record: SweepRecord) -> Table:
    rows = [(cell, engine) for cell in record.cells for engine in cell.engines]
    return table(
        "Engines",
        ("Network, engine", "Precision", "Clean", "Robust", "Verdict", "p50", "Batch", "Latency", "Memory", "Memory ratio", "Artefact",
         "Artefact ratio"),
        [(f"{cell.label}, {engine.flavour}", *_engine(engine)) for cell, engine in rows],
        numbers=(2, 3, 5, 6, 7, 8, 9, 10, 11),
        note="Latency, memory ratio, artefact ratio: the parent's engine of the same flavour over this one; 2.00x is half. Memory is the "
        "peak in use. Robust: right when clean and under every attack made on the network itself and on its INT8 graph.",
    )  # fmt: skip


def _engine(engine: EngineRow) -> list[str | Cell]:
    batch = min(engine.latency_ms, key=int, default=None)
    beside = engine.against_parent
    gain = latency_ratio(engine)
    return [
        engine.precision or NONE,
        percent(engine.clean.accuracy if engine.clean else None),
        estimate(engine.robust.accuracy, engine.robust.ci95) if engine.robust else NONE,
        Cell(engine.verdict, TONES[engine.verdict]) if engine.verdict else Cell(engine.error or engine.status, "muted"),
        milliseconds(engine.latency_ms[batch]) if batch else Cell(INVALID, "bad") if engine.latency_invalid else NONE,
        batch or NONE,
        Cell(times(gain), "good" if gain is not None and gain > 1 + NOTHING else ""),
        size(engine.memory_bytes),
        times(beside.memory if beside else None),
        size(engine.artefact_bytes),
        times(beside.artefact if beside else None),
    ]


def _places(record: SweepRecord) -> Table:
    def was(cached: bool | None) -> str:
        return NONE if cached is None else "cache" if cached else "made now"

    rows = []
    for cell in record.cells:
        made, benched = was(cell.network_cached), was(cell.run_cached if cell.run else None)
        rows.append((cell.label, Cell((cell.sha256 or NONE)[:12], "code"), made, benched, cell.run or NONE))
    note = "Each run folder has the whole report of one network."
    return table("Runs", ("Network", "Weights, sha256", "Network", "Bench", "Run folder"), rows, note=note)
