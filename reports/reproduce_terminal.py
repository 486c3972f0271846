"""A reproduction for the command's standard output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.reproduce.record import OurRow, ReproduceRecord
from reports.format import NONE, clean, estimate, percent, significant
from reports.fronts import title
from reports.reproduce import COLUMNS, TONES, every
from reports.terminal import STYLES

HEADS = ("clean", "FB", "CE", "DLR", "worst", "C&W", "γ")


def reproduction(record: ReproduceRecord) -> RenderableType:
    """The tables, one line per row of the paper and one per network of ours; faults; claims. In 80 columns."""
    return Group(
        _tables(record),
        *_intervals(record),
        *_published(record),
        *_faults(record),
        *_missing(record),
        *_recommended(record),
        *_claims(record),
    )


def print_reproduction(record: ReproduceRecord, console: Console | None = None) -> None:
    """Print `reproduction` to standard output."""
    (console or Console()).print(reproduction(record))


def _table(first: str, heads: Sequence[str], caption: str | None = None) -> Table:
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False, caption=caption, caption_justify="left")
    made.add_column(first, overflow="fold", ratio=1)
    for name in heads:
        made.add_column(name, justify="right", no_wrap=True)
    return made


def _tables(record: ReproduceRecord) -> Table:
    result = _table("row (paper), network (ours)", HEADS, _caption(record))
    for row in record.rows:
        figures = [f"{row.paper[key]:g}" if key in row.paper else NONE for key in COLUMNS.values()]
        l2 = f"{row.paper['cw_l2']:g} %" if "cw_l2" in row.paper else NONE
        result.add_row(Text(row.name, style="bold"), *map(Text, (NONE, *figures, NONE, l2, NONE)))
        for one in row.ours:
            result.add_row(*_ours(one))
        if not row.ours:
            result.add_row(Text("  missing", style="yellow"))
    if record.others:
        result.add_row(Text("not in the paper", style="bold"))
    for one in record.others:
        result.add_row(*_ours(one))
    return result


def _caption(record: ReproduceRecord) -> str:
    return (
        f"In percent. The paper: n probably 50. Ours: n = {record.samples}; intervals: below. C&W: the paper's accuracy, "
        "our median L2 distance. γ: bits that store the weights."
    )


def _ours(one: OurRow) -> list[Text]:
    shares = [one.clean, *(one.robust[name] for name in COLUMNS), one.worst]
    figures = [percent(share.accuracy).removesuffix(" %") for share in shares]
    distance = NONE if one.cw_l2 is None else significant(one.cw_l2.value)
    gamma = NONE if one.gamma is None else f"{one.gamma['weight_bits']:.1f}"
    return [Text(f"  {clean(one.network)}", style="cyan"), *map(Text, (*figures, distance, gamma))]


def _intervals(record: ReproduceRecord) -> Iterator[RenderableType]:
    if ours := every(record):
        yield Text(f"\nOurs with 95 % intervals, n = {record.samples}", style="bold")
        result = _table("network", ("not zero", "clean", "worst"))
        for one in ours:
            shares = [estimate(share.accuracy, share.ci95).replace(" %", "") for share in (one.clean, one.worst)]
            result.add_row(Text(clean(one.network), style="cyan"), f"{one.nonzero:,}", *map(Text, shares))
        yield result


def _published(record: ReproduceRecord) -> Iterator[RenderableType]:
    yield Text("\nWhat others published, clean and robust, in percent", style="bold")
    result = _table("method, network", ("clean", "robust", "attack"))
    for one in record.published:
        result.add_row(
            Text(f"{one.system}, {one.network}"), NONE if one.clean is None else f"{one.clean:.2f}", f"{one.robust:.2f}", Text(one.attack)
        )
    yield result


def _faults(record: ReproduceRecord) -> Iterator[Text]:
    yield Text("\nWhere the paper's own figures do not hold", style="bold")
    for fault in record.faults:
        yield Text(f"- {fault.where}: {fault.what}")


def _missing(record: ReproduceRecord) -> Iterator[Text]:
    rows = [row for row in record.rows if row.missing]
    if rows:
        yield Text("\nRows without a network", style="bold")
    for row in rows:
        yield Text(f"- {row.name}: {row.missing}")


def _recommended(record: ReproduceRecord) -> Iterator[Text]:
    if record.fronts:
        yield Text("\nRecommendation", style="bold")
    for front in record.fronts:
        yield Text(f"- {title(front)}: {clean(front.reason)}")


def _claims(record: ReproduceRecord) -> Iterator[Text]:
    yield Text("\nThe paper's claims", style="bold")
    for claim in record.claims:
        yield Text(f"{claim.claim}: {claim.answer}", style=STYLES[TONES[claim.answer]])
        yield Text(f"  {clean(claim.reason)}\n  {clean(claim.paper)}")
