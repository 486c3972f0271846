"""The engines: what really ran, how near it is to the twin, how fast, in how much memory."""

from __future__ import annotations

from collections.abc import Iterator

from harness.records import EngineRecord, Latency, LoadGen, Ratio, RunRecord, Spread
from reports.elements import Cell, Section, Table, table
from reports.format import EMULATED, NONE, WITHHELD, count, estimate, factor, flat, milliseconds, percent, several, significant, size
from reports.run import Run
from reports.sections import roofline
from reports.sections.telemetry import INVALID
from reports.sections.verdict import STATUS_WORDS

# What LoadGen calls a scenario's figures in its summary.
LOADGEN_FIGURES = {
    "SingleStream": (
        "90.0th percentile latency (ns)",
        "50.00 percentile latency (ns)",
        "99.00 percentile latency (ns)",
        "QPS w/ loadgen overhead",
    ),
    "Offline": ("Samples per second",),
}


def section(run: Run) -> Section:
    """Everything about the engines but their robustness."""
    record = run.record
    if not record.engines:
        return Section("engines", "Engines side by side", ["No engine has been run."])
    failed = [engine for engine in record.engines if engine.status != "ok"]
    paragraphs, tables = [], [_ran(record)]
    if failed:
        paragraphs.append(f"{len(failed)} of {several(len(record.engines), 'engine')} failed; what they said is below.")
        rows = [(e.name, STATUS_WORDS[e.status], e.error or NONE) for e in failed]
        tables.append(table("Failed engines", ("Engine", "What happened", "Error"), rows))
    if record.device.emulated:
        paragraphs.append("No latency is given: an emulator's clock says nothing about the device.")
    elif any(engine.latency for engine in record.engines):
        tables += [*_matrix(record), _percentiles(record)]
    return Section("engines", "Engines side by side", paragraphs, [*tables, _memory(record), _parity(record), *_details(record)])


def _details(record: RunRecord) -> Iterator[Table]:
    """What few readers need, where the run has it."""
    timed = any(engine.latency for engine in record.engines) and not record.device.emulated
    yield _evidence(record)
    if record.ratios and timed:
        yield _ratios(record)
    if any(engine.precision_evidence and engine.precision_evidence.shares for engine in record.engines):
        yield _kernels(record)
    if timed:
        yield _steadiness(record)
    if any(latency.parts for _, _, latency in _latencies(record)):
        yield _parts(record)
    if any(engine.loadgen for engine in record.engines):
        yield _loadgen(record)
    if any(engine.roofline for engine in record.engines):
        yield roofline.floors(record)


def _matrix(record: RunRecord) -> list[Table]:
    """Every engine against every other at the smallest batch; nothing where one was timed alone."""
    if not record.ratios:
        return []
    batch = min(ratio.batch for ratio in record.ratios)
    here = [ratio for ratio in record.ratios if ratio.batch == batch]
    names = list(dict.fromkeys(name for ratio in here for name in (ratio.above, ratio.below)))
    cells = {(ratio.above, ratio.below): _times(ratio.low, ratio) for ratio in here}
    cells |= {(ratio.below, ratio.above): _times(1 / ratio.low if ratio.low else None, ratio) for ratio in here}
    return [
        table(
            f"Latency of the row / latency of the column, batch {batch}",
            ("Engine", *names),
            [(row, *(Cell("1", "muted") if row == column else cells.get((row, column), NONE) for column in names)) for row in names],
            numbers=range(1, len(names) + 1),
            note="Engines took turns; the median over the rounds, of the fastest tenth of each round's calls. Below 1: the row is faster. "
            "≈: the rounds do not agree which one is, so no difference is shown.",
        )
    ]


def _times(ratio: float | None, told: Ratio) -> Cell:
    return Cell(NONE) if ratio is None else Cell(factor(ratio)) if told.decided else Cell(f"≈ {factor(ratio)}", "muted")


def _ratios(record: RunRecord) -> Table:
    """Every pair at every batch size."""
    rows = [
        (
            f"{r.above} / {r.below}",
            str(r.batch),
            f"{factor(r.low)} [{factor(r.low_smallest)}, {factor(r.low_largest)}]",
            f"{factor(r.median)} [{factor(r.median_smallest)}, {factor(r.median_largest)}]",
            str(r.rounds),
            f"{r.below if r.low > 1 else r.above} is faster" if r.decided else Cell("the rounds disagree: no difference", "warn"),
        )
        for r in record.ratios
    ]
    note = (
        "Engines took turns. Each figure is the median over the rounds of latency / latency, with the smallest and largest; undisturbed: "
        "of the fastest tenth of a round's calls, which other programs cannot lengthen."
    )
    columns = ("Latency of", "Batch", "Undisturbed", "Median", "Rounds", "So")
    return table("Engine against engine", columns, rows, numbers=(1, 2, 3, 4), note=note, fold=True)


def _ran(record: RunRecord) -> Table:
    return table(
        "What ran",
        ("Engine", "Status", "Runtime", "Precision", "MACs in integer kernels", "Clean accuracy", "n"),
        [
            (
                engine.name,
                Cell(engine.status, "good" if engine.status == "ok" else "bad"),
                f"{engine.runtime} {engine.runtime_version or ''}",
                *_precision(engine),
                *((estimate(engine.clean.accuracy, engine.clean.ci95), count(engine.clean.n)) if engine.clean else (NONE, NONE)),
            )
            for engine in record.engines
        ],
        numbers=(4, 5, 6),
        note="Precision is what the runtime's own optimised graph shows, not what was asked for. MACs in integer kernels: the share of "
        "the multiply-accumulates of convolutions and linear layers that really ran in integers. Intervals are 95 % Wilson.",
    )


def _evidence(record: RunRecord) -> Table:
    return table(
        "Evidence of precision, and options",
        ("Engine", "Operators of the optimised graph", "Options"),
        [(engine.name, _kernel_words(engine), _options(engine)) for engine in record.engines],
        fold=True,
    )


def _options(engine: EngineRecord) -> str:
    varied = [f"unlike what was asked for: {engine.varied}"] if engine.varied else []
    return ", ".join([*varied, *(f"{key} = {value}" for key, value in flat(engine.options))]) or NONE


def _precision(engine: EngineRecord) -> tuple[Cell, str]:
    evidence = engine.precision_evidence
    if evidence is None:
        return Cell("not known", "warn"), NONE
    label = evidence.label if evidence.label == evidence.claimed else f"{evidence.label} (asked for: {evidence.claimed})"
    return Cell(label, "" if evidence.label == evidence.claimed else "warn"), percent(evidence.integer_mac_share)


def _kernel_words(engine: EngineRecord) -> str:
    evidence = engine.precision_evidence
    if evidence is None:
        return "none was read"
    kernels = ", ".join(f"{name} × {number}" for name, number in sorted(evidence.kernels.items(), key=lambda item: (-item[1], item[0])))
    return "; ".join(filter(None, (kernels, evidence.note))) or NONE


def _kernels(record: RunRecord) -> Table:
    return table(
        "Kernels of the engine",
        ("Engine", "Kind", "Layers", "Time", "MACs"),
        [
            (engine.name, kind, percent(share.layers), percent(share.time), percent(share.macs))
            for engine in record.engines
            if engine.precision_evidence is not None
            for kind, share in engine.precision_evidence.shares.items()
        ],
        numbers=(2, 3, 4),
        note="From the engine's own inspector and layer profile. Sparse is a part of the others: kernels whose name says that they use 2:4 "
        "sparsity. Movement computes nothing. Unknown: fused layers that hide their kernel, never counted as what was asked for.",
        fold=True,
    )


def _parts(record: RunRecord) -> Table:
    return table(
        "Where the time of a call goes (ms)",
        ("Engine", "Batch", "Part", "p50", "p90", "p99", "Mean"),
        [
            (flavour, batch, name.replace("_", " "), significant(part.p50), *map(significant, (part.p90, part.p99, part.mean)))
            for flavour, batch, name, part in [*_own_parts(record), *_cross_checks(record)]
        ],
        numbers=(1, 3, 4, 5, 6),
        note="By the device's own events, within each timed call. The latency above is end to end, as the caller waits for it. "
        "In brackets: another program, on the same engine file.",
        fold=True,
    )


def _own_parts(record: RunRecord) -> Iterator[tuple[str, str, str, Spread]]:
    for flavour, batch, latency in _latencies(record):
        for name, part in latency.parts.items() if not latency.invalid else ():
            yield flavour, batch, name, part


def _cross_checks(record: RunRecord) -> Iterator[tuple[str, str, str, Spread]]:
    for engine in record.engines:
        if (opinion := engine.cross_check) is not None:
            for name, part in opinion.parts.items():
                yield engine.name, str(opinion.batch), f"{name} ({opinion.tool})", part


def _word(loadgen: LoadGen) -> str:
    """VALID, or INVALID by LoadGen itself, or by what was seen of the device meanwhile."""
    if loadgen.invalid:
        return f"INVALID here: {'; '.join(loadgen.invalid)}"
    return "VALID" if loadgen.valid else "INVALID"


def _loadgen(record: RunRecord) -> Table:
    return table(
        "MLPerf LoadGen",
        ("Engine", "Scenario", "LoadGen says", "Figure", "Value", "Logs"),
        [
            (engine.name, loadgen.scenario, Cell(valid, "good" if valid == "VALID" else "warn"), name, loadgen.figures[name], loadgen.logs)
            for engine in record.engines
            if (loadgen := engine.loadgen) is not None
            for valid in (_word(loadgen),)
            for name in LOADGEN_FIGURES[loadgen.scenario]
            if name in loadgen.figures
        ],
        numbers=(4,),
        note="LoadGen drove the same engine after the measurement above, one call after another (SingleStream) or all images at once "
        "(Offline, 32 at a time). Its shortest duration is the tier's; MLPerf itself asks for ten minutes.",
        fold=True,
    )


def _parity(record: RunRecord) -> Table:
    return table(
        "Artefact against twin",
        ("Engine", "Result", "Equal top-1", "Largest logit difference", "n", "Limit"),
        [
            (
                engine.name,
                Cell("passed", "good") if engine.parity.passed else Cell("failed", "bad"),
                percent(engine.parity.top1_agreement),
                significant(engine.parity.max_logit_error),
                count(engine.parity.n),
                engine.parity.limit,
            )
            for engine in record.engines
            if engine.parity is not None
        ],
        numbers=(2, 3, 4),
        note="Before any device is involved: the exported file and the twin on the same images.",
    )


def _memory(record: RunRecord) -> Table:
    hidden = record.device.emulated
    return table(
        "Size, memory and loading",
        ("Engine", "Artefact", "Peak memory", "Baseline", "Device memory", "Load time"),
        [
            (
                engine.name,
                size(engine.memory.artefact_bytes),
                EMULATED if hidden else size(engine.memory.peak_bytes),
                EMULATED if hidden else size(engine.memory.baseline_bytes),
                EMULATED if hidden else size(engine.memory.device_bytes),
                EMULATED if hidden else milliseconds(engine.load_ms),
            )
            for engine in record.engines
        ],
        numbers=range(1, 6),
        note="Peak memory is the worker's peak resident set less the baseline, its resident set before the runtime was imported. "
        "Device memory is the accelerator's own.",
    )


def _latencies(record: RunRecord) -> Iterator[tuple[str, str, Latency]]:
    for engine in record.engines:
        for batch in sorted(engine.latency, key=int):
            yield engine.name, batch, engine.latency[batch]


def _percentiles(record: RunRecord) -> Table:
    floors = {(e.name, batch): found for e in record.engines if e.roofline for batch, found in e.roofline.floors.items()}
    return table(
        "Latency of one call (ms)",
        ("Engine", "Batch", "p50", "p90", "p95", "p99", "p99.9", "Floor (estimate)", "p50 / floor", "Images/s", "n"),
        [
            (
                flavour,
                batch,
                *_figures(latency),
                *roofline.beside(floors.get((flavour, batch)), None if latency.invalid else latency.p50),
                NONE if latency.invalid else significant(latency.throughput_per_s),
                count(latency.n),
            )
            for flavour, batch, latency in _latencies(record)
        ],
        numbers=range(1, 11),
        note="n: timed calls. A percentile is withheld below the number of calls it needs to be trusted: p90 64, p95 130, p99 662, "
        "p99.9 6,636 (LoadGen's early stopping, one over-latency call allowed). Images/s is the batch over the mean. Floor: "
        "no call can be faster, by the processor's peaks (see below). INVALID: it does not count, see Latency round by round.",
    )


def _figures(latency: Latency) -> list[Cell]:
    """The percentiles, the median first; where the measurement does not count, that."""
    if latency.invalid:
        return [Cell(INVALID, "bad"), *[Cell(NONE)] * 4]
    rest = (_percentile(value, latency.n) for value in (latency.p90, latency.p95, latency.p99, latency.p999))
    return [Cell(significant(latency.p50), "strong"), *rest]


def _percentile(value: float | None, n: int) -> Cell:
    return Cell(f"{WITHHELD} (n={n})", "muted") if value is None else Cell(significant(value))


def _steadiness(record: RunRecord) -> Table:
    return table(
        "Steadiness of the timing (ms)",
        ("Engine", "Batch", "Minimum", "Mean", "Maximum", "Variation", "First call", "Warm-up calls", "Warm-up settled"),
        [
            (
                flavour,
                batch,
                *(NONE if latency.invalid else significant(value) for value in (latency.minimum, latency.mean, latency.maximum)),
                percent(latency.variation),
                NONE if latency.invalid else significant(latency.first),
                count(latency.warmup_n),
                Cell("yes", "good") if latency.stable else Cell("no", "warn"),
            )
            for flavour, batch, latency in _latencies(record)
        ],
        numbers=range(1, 8),
        note="Variation is the standard deviation over the mean. Warm-up calls were discarded. "
        "Warm-up settled: three windows in a row agreed before timing began.",
        fold=True,
    )
