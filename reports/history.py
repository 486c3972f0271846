"""One figure over many runs: what a release's robustness, time or memory was, and since which run it is otherwise.

Only runs that are alike are joined: of one network (by name: its weights may change, that is what a history shows), on one device, of the
same images, tier and seed; times and memory on the same hardware, with as many threads. A figure that its own report withholds is a gap in
the line, with the reason in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from harness.errors import UntrustedError, UsageError, unknown
from harness.records import RECORD, Claim, EngineRecord, RunRecord, Share, Step
from reports import plots
from reports.elements import Cell, Section, Table, table
from reports.figures import Figure
from reports.format import NONE, clean, percent, points, several, significant
from reports.html import page
from reports.markdown import document
from reports.outcomes import counting
from reports.sections.telemetry import INVALID

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DEPTH = ("*", "*/*")  # a run lies in the folder, or a device's run in that of its fleet


class Value(NamedTuple):
    """A figure of one run: `figure` None where it does not count, for the reason `why`; `low` and `high` are its interval."""

    figure: float | None
    low: float | None = None
    high: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Metric:
    """What can be followed.

    Attributes:
        title: its name in words.
        unit: of its figures.
        less: whether less is better.
        text: a figure as text.
        values: a record -> what each figure is of, and the figure.
        interval: what `low` and `high` of its values are.
        noise: the share by which a figure without an interval differs from run to run for no reason; runs are not timed in turns.
    """

    title: str
    unit: str
    less: bool
    text: Callable[[float | None], str]
    values: Callable[[RunRecord], Iterator[tuple[str, Value]]]
    interval: str = "95 % interval"
    noise: float = 0.0


@dataclass(frozen=True)
class Series:
    """Runs that are alike, oldest first: what they have in common, and each one's folder, time and value."""

    about: str
    subject: str
    runs: tuple[tuple[str, str, Value], ...]


def _of_share(share: Share | None, why: str) -> Value:
    return Value(None, why=why) if share is None or why else Value(share.accuracy, *share.ci95)


def _robust(record: RunRecord) -> Iterator[tuple[str, Value]]:
    for claim in record.claims:
        yield _claimed(record, claim), _of_share(claim.engine_robust, _unsound(claim))


def _gap(record: RunRecord) -> Iterator[tuple[str, Value]]:
    for claim in record.claims:
        why = _unsound(claim)
        yield _claimed(record, claim), Value(None, why=why) if why else Value(claim.gap, claim.lower, claim.upper)


def _claimed(record: RunRecord, claim: Claim) -> str:
    """What a claim's figures are of: with other attacks they are other figures, however alike the runs are."""
    attacks = sorted({f"{attack.source} {attack.name}" for attack in counting(record, claim)})
    return f"{claim.engine} at {claim.eps_exact} under {', '.join(attacks) or 'no attack'}"


def _unsound(claim: Claim) -> str:
    return "" if claim.verdict.sound else str(claim.verdict)


def _clean(record: RunRecord) -> Iterator[tuple[str, Value]]:
    for engine in record.engines:
        yield engine.name, _of_share(engine.clean, _failed(engine))


def _latency(record: RunRecord) -> Iterator[tuple[str, Value]]:
    for engine in record.engines:
        for batch, latency in sorted(engine.latency.items(), key=lambda item: int(item[0])):
            why = "emulated: withheld" if record.device.emulated else f"{INVALID}: {latency.invalid[0]}" if latency.invalid else ""
            yield f"{engine.name}, batch {batch}", Value(None, why=why) if why else Value(latency.p50)


def _memory(record: RunRecord) -> Iterator[tuple[str, Value]]:
    for engine in record.engines:
        peak = engine.memory.peak_bytes
        yield engine.name, Value(None if peak is None else peak / 2**20, why=_failed(engine))


def _size(record: RunRecord) -> Iterator[tuple[str, Value]]:
    for engine in record.engines:
        size = engine.memory.artefact_bytes
        yield engine.name, Value(None if size is None else size / 1024)


def _failed(engine: EngineRecord) -> str:
    return "" if engine.status == "ok" else engine.status


METRICS: dict[str, Metric] = {
    "robust": Metric("Robust accuracy of the engine, worst case", "%", False, percent, _robust),
    "gap": Metric("Twin less engine, worst case", "points", True, points, _gap, interval="one-sided 95 % bounds"),
    "clean": Metric("Accuracy on clean images", "%", False, percent, _clean),
    "latency": Metric("Median latency", "ms", True, significant, _latency, noise=0.1),
    "memory": Metric("Peak memory", "MiB", True, significant, _memory, noise=0.05),
    "size": Metric("Size of the artefact", "KiB", True, significant, _size),
}
SHARES = ("%", "points")  # units of figures that the record has as shares


def to_text(folder: Path, metrics: Sequence[str]) -> str:
    """The history as Markdown. Raises as `render_history`."""
    title, subtitle, first, others, _ = _history(folder, metrics)
    return document(title, subtitle, [first, *others])


def render_history(folder: Path, metrics: Sequence[str], out: Path) -> list[Path]:
    """Write report.html and report.md of the runs below `folder` into `out`; returns the files.

    Args:
        folder: holds run folders, or folders of fleets.
        metrics: names in `METRICS`.
        out: made where it is not there.

    Raises:
        UsageError: an unknown metric, no such folder, or no finished run below it.
    """
    title, subtitle, first, others, drawn = _history(folder, metrics)
    figures = {key: [(Markup(f.svg), f.caption, f.fold) for f in several] for key, several in drawn.items()}  # noqa: S704 matplotlib escapes its texts
    html = page(title=title, subtitle=subtitle, answer="History", tone="", tag="", verdict=first, sections=others, figures=figures)
    out.mkdir(parents=True, exist_ok=True)
    texts = {"report.html": html, "report.md": document(title, subtitle, [first, *others])}
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8")
    return [out / name for name in texts]


def read_records(folder: Path) -> tuple[dict[str, RunRecord], list[str]]:
    """The finished runs below a folder, oldest first, by their path in it; and why others were left out, a line each.

    Raises:
        UsageError: no such folder, or no finished run in it.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; give the one that holds the run folders, such as runs")
    records: dict[str, RunRecord] = {}
    left_out = []
    every = (path for depth in DEPTH for path in sorted(folder.glob(f"{depth}/{RECORD}"), reverse=True))
    for path in sorted({path.resolve(): path for path in every}.values()):  # a link to a run is no other run
        name = str(path.parent.relative_to(folder))
        try:
            record = RunRecord.load(path.parent)
        except (UntrustedError, UsageError) as error:
            left_out.append(f"{name}: {str(error).removesuffix('.')}")
            continue
        if record.status == Step.FINISHED:
            records[name] = record
        else:
            left_out.append(f"{name}: it has not finished ({record.status})")
    if not records:
        raise UsageError(f"{folder} holds no finished run. {'; '.join(left_out) or f'Looked for */{RECORD} in it.'}")
    return dict(sorted(records.items(), key=lambda item: (item[1].created, item[0]))), left_out


def series_of(records: dict[str, RunRecord], metric: Metric) -> list[Series]:
    """The figures of one metric, a series for each subject in each group of runs that are alike."""
    found: dict[tuple[object, ...], list[tuple[str, str, Value]]] = {}
    names: dict[tuple[object, ...], tuple[str, str]] = {}
    for name, record in records.items():
        for subject, value in metric.values(record):
            where = ", ".join(filter(None, (record.device.timed_on, record.device.timed_with))) if metric.noise else ""
            key = (*_alike(record), where, subject)
            found.setdefault(key, []).append((name, record.created, value))
            names[key] = (_about(record, where), subject)
    return [Series(*names[key], tuple(runs)) for key, runs in found.items()]


def _alike(record: RunRecord) -> tuple[object, ...]:
    device = record.device
    return record.model.name, device.name, device.emulated, record.data.sha256, record.data.n, record.tier, record.seed


def _about(record: RunRecord, hardware: str) -> str:
    kind = ", emulated" if record.device.emulated else ", made-up clock" if record.device.synthetic else ""
    where = f"{record.model.name} on {record.device.name}{kind}"
    on = f" ({hardware})" if hardware else ""
    return clean(f"{where}{on}; {record.data.name}, n = {record.data.n:,}, tier {record.tier}, seed {record.seed}")


def _history(folder: Path, metrics: Sequence[str]) -> tuple[str, str, Section, list[Section], dict[str, list[Figure]]]:
    for name in metrics:
        if name not in METRICS:
            raise unknown("metric", name, METRICS)
    records, left_out = read_records(folder)
    chosen = {name: METRICS[name] for name in metrics}
    every = {name: series_of(records, metric) for name, metric in chosen.items()}
    changes = [line for name, several in every.items() for one in several if (line := _change(one, chosen[name]))]
    times = [record.created for record in records.values()]
    paragraphs = [
        f"{several(len(records), 'finished run')}, {' to '.join(dict.fromkeys((times[0], times[-1])))}.",
        *(changes or ["Nothing changed by more than its interval, or than figures differ from run to run."]),
    ]
    first = Section("verdict", "What changed last", [*paragraphs, *(f"Left out: {clean(line)}" for line in left_out)])
    others = [
        Section(name, chosen[name].title, [], [_table(one, chosen[name]) for one in several]) for name, several in every.items() if several
    ]
    drawn = {name: [figure for one in several if (figure := _figure(one, chosen[name]))] for name, several in every.items()}
    return f"History of {clean(folder.resolve().name)}", several(len(records), "run"), first, others, drawn


def _change(series: Series, metric: Metric) -> str:
    """What the last run changed against the one before, in words; nothing where the intervals overlap or the difference may be noise."""
    counted = [(name, value) for name, _, value in series.runs if value.figure is not None]
    if len(counted) < 2:
        return ""
    (before, old), (after, new) = counted[-2:]
    assert old.figure is not None and new.figure is not None  # noqa: S101 - as filtered
    if old.low is None or old.high is None or new.low is None or new.high is None:
        apart = abs(new.figure - old.figure) > metric.noise * old.figure
    else:
        apart = new.low > old.high or new.high < old.low
    if not apart or metric.text(old.figure) == metric.text(new.figure):
        return ""
    better = (new.figure < old.figure) == metric.less
    figures = [metric.text(figure) + ("" if metric.unit == "%" else f" {metric.unit}") for figure in (old.figure, new.figure)]
    return (
        f"{metric.title}, {series.subject} ({series.about}): {figures[0]} in {clean(before)}, {figures[1]} in {clean(after)}: "
        f"{'better' if better else 'worse'}."
    )


def _table(series: Series, metric: Metric) -> Table:
    rows = [
        (
            name,
            created,
            metric.text(value.figure) if value.figure is not None else Cell(value.why or NONE, "muted"),
            _interval(value, metric),
            step,
        )
        for (name, created, value), step in zip(series.runs, ["", *_steps(series, metric)], strict=True)
    ]
    return table(
        f"{series.subject}: {series.about}", ("Run", "Made", f"Value, {metric.unit}", metric.interval, "Change"), rows, numbers=(2, 3, 4)
    )


def _steps(series: Series, metric: Metric) -> Iterator[str]:
    """How much each run's figure differs from that of the run before it."""
    for (_, _, old), (_, _, new) in pairwise(series.runs):
        if old.figure is None or new.figure is None:
            yield ""
        elif metric.unit in SHARES:
            yield points(new.figure - old.figure)
        else:
            yield "" if not old.figure else f"{100 * (new.figure / old.figure - 1):+.1f} %".replace("-", "−")


def _interval(value: Value, metric: Metric) -> str:
    return "" if value.low is None or value.high is None else f"[{metric.text(value.low)}, {metric.text(value.high)}]"


def _figure(series: Series, metric: Metric) -> Figure | None:
    """The line; None where fewer than two runs have a figure."""
    places = [(place, value) for place, (_, _, value) in enumerate(series.runs) if value.figure is not None]
    if len(places) < 2:
        return None
    scale = 100 if metric.unit in SHARES else 1
    caption = f"{series.subject}: {series.about}. Runs from the oldest to the latest, evenly spaced; bars: {metric.interval}."
    text = "; ".join(f"{clean(series.runs[place][0])}: {metric.text(value.figure)}" for place, value in places)

    def draw(axes: Axes) -> None:
        line = [float("nan") if value.figure is None else scale * value.figure for _, _, value in series.runs]
        axes.plot(line, color=plots.SERIES[0], marker="o", markersize=5, markeredgecolor=plots.PAPER)
        for place, value in places:
            if value.low is not None and value.high is not None:
                axes.vlines(place, scale * value.low, scale * value.high, color=plots.SERIES[0], linewidth=1.2, alpha=0.6)
        axes.set_xticks(range(len(series.runs)), [created[:10] for _, created, _ in series.runs], rotation=45, ha="right")
        axes.set_ylabel(metric.unit)
        axes.margins(y=0.15)

    return Figure(plots.svg(draw, (5.0, 2.6), f"{metric.title}. {series.subject}: {text}.", ""), caption)
