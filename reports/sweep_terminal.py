"""A sweep for the command's standard output."""

from __future__ import annotations

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.sweep.record import CellRow, SweepRecord
from reports.format import NONE, clean, percent
from reports.sections.verdict import TONES
from reports.sweep import answer, gains, invalid, latency_ratio, times
from reports.terminal import STYLES

GAMMAS = {"nonzero": "γ non-zero", "weight_bits": "γ bits"}


def sweep_table(record: SweepRecord) -> RenderableType:
    """One row per network, what the compressions bought, and which to take. Names are shown literally."""
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    result.add_column("network", overflow="fold", ratio=1)
    for name in ("clean", "robust", "n", *GAMMAS.values(), "latency"):
        result.add_column(name, justify="right", no_wrap=name not in GAMMAS.values())
    result.add_column("verdict")
    for cell in record.cells:
        result.add_row(*_row(cell))
    failed = [Text(f"{cell.label}: {clean(cell.error)}", style="bold red") for cell in record.cells if cell.error]
    words = [Text(clean(line)) for line in (*gains(record), *invalid(record), *answer(record))]
    return Group(result, *failed, *words)


def print_sweep(record: SweepRecord, console: Console | None = None) -> None:
    """Print `sweep_table` to standard output."""
    (console or Console()).print(sweep_table(record))


def _row(cell: CellRow) -> list[Text]:
    ratios = [ratio for engine in cell.engines if (ratio := latency_ratio(engine)) is not None]
    figures = [
        cell.label,
        percent(cell.clean.accuracy if cell.clean else None),
        percent(cell.robust.accuracy if cell.robust else None),
        f"{cell.robust.n:,}" if cell.robust else NONE,
        *(NONE if cell.gamma is None else f"{cell.gamma[way]:.2f}" for way in GAMMAS),
        "/".join(map(times, ratios)) or NONE,
    ]
    verdict = Text(cell.status, style="bold red") if cell.verdict is None else Text(cell.verdict, style=STYLES[TONES[cell.verdict]])
    return [*(Text(clean(figure)) for figure in figures), verdict]
