"""The verdict for the command's standard output, in 80 columns."""

from __future__ import annotations

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.records import Claim, EngineRecord, RunRecord
from reports.format import EMULATED, NONE, WITHHELD, clean, count, percent, points, significant, size
from reports.sections.verdict import TONES, caveat, headline

STYLES = {"good": "green", "warn": "yellow", "bad": "bold red"}


def verdict_table(record: RunRecord) -> RenderableType:
    """The answer, one row per claim, then one row per engine. Names are shown literally: no markup in them is obeyed."""
    style = "yellow" if record.verdict is None else STYLES[TONES[record.verdict]]
    parts: list[RenderableType] = [Text(headline(record), style=f"bold {style}")]
    if caveat(record):
        parts.append(Text(caveat(record), style="bold yellow"))
    if record.claims:
        parts.append(_claims(record))
    if record.engines:
        parts.append(_engines(record))
    return Group(*parts)


def print_verdict(record: RunRecord, console: Console | None = None) -> None:
    """Print `verdict_table` to standard output."""
    (console or Console()).print(verdict_table(record))


def _table(*columns: str) -> Table:
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
    for column in columns:
        name, _, right = column.partition(">")
        result.add_column(name, justify="right" if right else "left", overflow="fold")
    return result


def _claims(record: RunRecord) -> Table:
    result = _table("engine", "verdict", "ε", "twin>r", "engine>r", "gap>r", "95 % bounds>r", "margin>r", "n>r")
    for claim in record.claims:
        result.add_row(*_claim(claim))
    return result


def _claim(claim: Claim) -> list[Text]:
    bounds = NONE if claim.lower is None else f"[{points(claim.lower)}, {points(claim.upper)}]"
    figures = [
        percent(claim.twin_robust.accuracy if claim.twin_robust else None),
        percent(claim.engine_robust.accuracy if claim.engine_robust else None),
        points(claim.gap),
        bounds,
        f"{100 * claim.margin:.1f}",
        count(claim.n),
    ]
    return [
        Text(clean(claim.engine)),
        Text(claim.verdict, style=STYLES[TONES[claim.verdict]]),
        Text(clean(claim.eps_exact)),
        *map(Text, figures),
    ]


def _engines(record: RunRecord) -> Table:
    result = _table("engine", "precision", "clean>r", "p50 batch 1>r", "p99>r", "peak memory>r", "artefact>r")
    for engine in record.engines:
        result.add_row(*_engine(engine, record.device.emulated))
    return result


def _engine(engine: EngineRecord, emulated: bool) -> list[Text]:
    name = Text(clean(engine.flavour))
    if engine.status != "ok":
        return [name, Text(f"{engine.status}: {clean(engine.error or NONE)}", style="bold red"), *(Text(NONE) for _ in range(5))]
    evidence, latency = engine.precision_evidence, engine.latency.get("1")
    timing = [EMULATED, EMULATED, EMULATED]
    if not emulated:
        p99 = NONE if latency is None else WITHHELD if latency.p99 is None else f"{significant(latency.p99)} ms"
        timing = [NONE if latency is None else f"{significant(latency.p50)} ms", p99, size(engine.memory.peak_bytes)]
    share = percent(engine.clean.accuracy if engine.clean else None)
    return [name, *map(Text, (clean(evidence.label) if evidence else "not known", share, *timing, size(engine.memory.artefact_bytes)))]
