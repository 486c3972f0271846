"""The verdict for the command's standard output, in 80 columns."""

from __future__ import annotations

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.records import Claim, EngineRecord, Outcome, RunRecord, Verdict
from reports.format import NONE, WITHHELD, allowed, clean, count, factor, milliseconds, percent, points, significant, size
from reports.naming import brief, named
from reports.sections.requirements import OUTCOMES, bounds, counts, limit, reading, worst
from reports.sections.roofline import meaningful
from reports.sections.telemetry import INVALID
from reports.sections.verdict import TONES, called, caveat, headline, more_images

STYLES = {"good": "green", "warn": "yellow", "bad": "bold red"}
VERDICT_COLUMNS = 13
NAME_COLUMNS = 16  # that an engine's name is given before its precision folds


def verdict_table(record: RunRecord) -> RenderableType:
    """The answer, one row per claim, then one row per engine. Names are shown literally: no markup in them is obeyed."""
    record = named(record)
    style = "yellow" if record.verdict is None else STYLES[TONES[record.verdict]]
    parts: list[RenderableType] = [
        Text(f"{record.verdict}: {headline(record)}" if record.verdict else headline(record), style=f"bold {style}")
    ]
    if caveat(record):
        parts.append(Text(caveat(record), style="bold yellow"))
    if record.claims:
        parts.append(_claims(record))
    controls = {claim.engine for claim in record.claims if claim.control}
    ran = sorted((engine for engine in record.engines if engine.status == "ok"), key=lambda engine: engine.name in controls)
    if ran:
        parts.append(_engines(ran, record.device.emulated))
    parts += [Text(line) for line in _ratios(record)]
    parts += requirements_table(record)
    parts += [
        Text(f"{clean(engine.name)} {engine.status}: {clean(engine.error or 'no reason was recorded')}", style="bold red")
        for engine in record.engines
        if engine.status != "ok"
    ]
    parts += [Text(line, style="yellow") for line in (*_open(record), *_failed_gates(record))]
    if not record.device.emulated:
        parts += [Text(line, style="bold red") for line in _invalid(record)]
    return Group(*parts)


def requirements_table(record: RunRecord) -> list[RenderableType]:
    """One row per requirement, then how they stand; nothing where none was given."""
    if record.qualification is None or not record.requirements:
        return []
    return [_requirements(record), *(Text(line, style=style) for line, style in _reasons(record))]


def print_requirements(record: RunRecord, console: Console | None = None) -> None:
    """Print `requirements_table` to standard output."""
    (console or Console()).print(Group(*requirements_table(named(record))))


def _requirements(record: RunRecord) -> Table:
    result = _table("requirement", "limit", "observed", "bounds")
    result.columns[1].no_wrap = result.columns[2].no_wrap = False
    result.add_column("", width=VERDICT_COLUMNS)
    several = len({row.engine for row in record.requirements if row.engine}) > 1
    for row in record.requirements:
        engine = f" ({brief(clean(row.engine))})" if row.engine and several else ""
        figures = (f"{clean(row.name)}{engine}", clean(limit(row)), clean(reading(row)), clean(bounds(row)))
        result.add_row(*map(Text, figures), Text(row.outcome, style=STYLES[OUTCOMES[row.outcome]]))
    return result


def _reasons(record: RunRecord) -> list[tuple[str, str]]:
    """How the requirements stand, and what would decide those that are open; each reason once. Lines with their style."""
    style = STYLES[worst(record.requirements)]
    engines = ", ".join(dict.fromkeys(brief(clean(row.engine)) for row in record.requirements if row.engine))
    reasons: dict[str, list[str]] = {}
    for row in record.requirements:
        if row.reason and row.outcome != Outcome.PASS:
            reasons.setdefault(clean(row.reason), []).append(clean(row.name))
    return [
        (f"Requirements{f' of {engines}' if engines else ''}: {counts(record.requirements)}.", style),
        *((f"{', '.join(who)}: {why}", "yellow") for why, who in reasons.items()),
    ]


def _ratios(record: RunRecord) -> list[str]:
    """Engine against engine at the smallest batch size, in words."""
    first = min((ratio.batch for ratio in record.ratios), default=None)
    return [
        f"{clean(r.above)} / {clean(r.below)}, batch {r.batch}: {factor(r.low)} of the time "
        f"[{factor(r.low_smallest)}, {factor(r.low_largest)}], "
        + (f"{r.rounds} rounds in turn" if r.decided else f"within the spread of {r.rounds} rounds: no difference is shown")
        for r in record.ratios
        if r.batch == first
    ]


def _open(record: RunRecord) -> list[str]:
    """Why a claim that neither stands nor falls with a gate is not answered well, and the command that would decide it."""
    undecided = (Verdict.INCONCLUSIVE, Verdict.DEGRADED, Verdict.FAILS)
    reasons = [
        f"{brief(clean(claim.engine))}: {clean(claim.reason)}"
        for claim in record.claims
        if claim.verdict in undecided and not claim.control
    ]
    return [*reasons, *filter(None, [clean(" ".join(filter(None, more_images(record))))])]


def _failed_gates(record: RunRecord) -> list[str]:
    """Each gate that failed, with what helps. What it saw is left out where the first line says it; the timing's is told by `_invalid`."""
    line = headline(record)
    return [
        f"gate '{gate.name}' failed{f' ({brief(clean(gate.engine))})' if gate.engine else ''}: "
        f"{'' if gate.observed in line else f'{clean(gate.observed)}. '}{clean(gate.remedy)}"
        for gate in record.gates
        if gate.passed is False and gate.name != "conditions"
    ]


def _invalid(record: RunRecord) -> list[str]:
    """Why measurements do not count; each reason once, with the engines and batch sizes it concerns."""
    found: dict[str, list[str]] = {}
    for engine in record.engines:
        for batch, latency in engine.latency.items():
            for reason in latency.invalid:
                found.setdefault(clean(reason), []).append(f"{brief(clean(engine.name))} batch {batch}")
    return [f"INVALID ({', '.join(where)}): {reason}" for reason, where in found.items()]


def print_verdict(record: RunRecord, console: Console | None = None) -> None:
    """Print `verdict_table` to standard output."""
    (console or Console()).print(verdict_table(record))


def _table(first: str, *numbers: str) -> Table:
    """A table whose first column may fold and whose others are numbers."""
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0, show_edge=False)
    result.add_column(first, overflow="fold")
    for name in numbers:
        result.add_column(name, justify="right", no_wrap=True)
    return result


def _claims(record: RunRecord) -> Table:
    result = _table("claim on", "ε", "twin", "engine", "gap", "95 % bounds", "margin", "n")
    result.add_column("verdict", width=VERDICT_COLUMNS)
    for claim in record.claims:
        result.add_row(*_claim(claim))
    return result


def _claim(claim: Claim) -> list[Text]:
    bounds = NONE if claim.lower is None else f"[{points(claim.lower, claim.margin)}, {points(claim.upper, claim.margin)}]"
    figures = [
        brief(called(claim)),
        claim.eps_exact,
        percent(claim.twin_robust.accuracy if claim.twin_robust else None),
        percent(claim.engine_robust.accuracy if claim.engine_robust else None),
        points(claim.gap, claim.margin),
        bounds,
        allowed(claim.margin),
        count(claim.n),
    ]
    return [*(Text(clean(figure)) for figure in figures), Text(claim.verdict, style=STYLES[TONES[claim.verdict]])]


def _engines(engines: list[EngineRecord], emulated: bool) -> Table:
    shown = [(engine.roofline.floors if engine.roofline else {}) if emulated else engine.latency for engine in engines]
    batch = min((batch for batches in shown for batch in batches), key=int, default=None)
    energy = [_energy(engine, batch) for engine in engines]
    last = ("mJ/image",) if any(value is not None for value in energy) else ()
    result = _table("engine", "precision", "clean", f"p50, batch {batch}" if batch else "p50", "p99", "memory", "artefact", *last)
    result.columns[1].no_wrap = False  # its labels are words
    result.columns[0].min_width = min(NAME_COLUMNS, max((len(brief(clean(engine.name))) for engine in engines), default=0))
    for engine, value in zip(engines, energy, strict=True):
        result.add_row(*map(Text, [*_engine(engine, batch, emulated), *([significant(value)] if last else [])]))
    return result


def _energy(engine: EngineRecord, batch: str | None) -> float | None:
    """Gross energy of one inference at a batch size, in millijoules; None where it is not known or does not count."""
    latency = engine.latency.get(batch) if batch else None
    return latency.energy.gross_mj if latency is not None and latency.energy is not None and not latency.invalid else None


def _engine(engine: EngineRecord, batch: str | None, emulated: bool) -> list[str]:
    evidence, latency = engine.precision_evidence, engine.latency.get(batch) if batch else None
    roof = meaningful(engine.roofline.floors.get(batch)) if engine.roofline and batch else None
    measured = [WITHHELD if roof is None else f"> {milliseconds(roof.ms)}, est.", WITHHELD, WITHHELD]
    if not emulated:
        p99 = NONE if latency is None else WITHHELD if latency.p99 is None else milliseconds(latency.p99)
        measured = [milliseconds(latency.p50 if latency else None), p99, size(engine.memory.peak_bytes)]
        if latency is not None and latency.invalid:
            measured[:2] = [INVALID, NONE]
    return [
        brief(clean(engine.name)),
        clean(evidence.label) if evidence else "not known",
        percent(engine.clean.accuracy if engine.clean else None),
        *measured,
        size(engine.memory.artefact_bytes),
    ]
