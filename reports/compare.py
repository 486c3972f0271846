"""Several finished runs side by side: one row per run and engine, and where their answers differ on the same images."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from harness.records import DeviceRecord, EngineRecord, Qualification, Requirement, RunRecord, Step
from reports.elements import Cell, Section, Table, table
from reports.format import NONE, WITHHELD, allowed, clean, count, estimated, milliseconds, points, several, size
from reports.html import page
from reports.markdown import document
from reports.run import Run
from reports.sections.requirements import counts, rows_tables
from reports.sections.telemetry import INVALID
from reports.sections.verdict import TONES, tag

KEY = ["index", "source", "target", "attack", "eps", "engine"]
SetKey = tuple[str, str, str, str]  # source, target, attack, radius as a fraction
NO_ATTACK = ("S0", "gate")  # sources of sets that no claim rests on
TWIN = "twin"
# What must be the same for two runs' answers to be compared image by image.
ALIKE = ("model", "data", "attacked images", "seed")


@dataclass(frozen=True)
class Comparison:
    """What every format shows. `headline` is the first words; `sections` begin with the verdicts."""

    title: str
    subtitle: str
    headline: str
    sections: Sequence[Section]


def render_comparison(runs: Mapping[str, Path], folder: Path, more: Sequence[Section] = ()) -> list[Path]:
    """Write report.html and report.md of several run folders into `folder`.

    Args:
        runs: what each is called here -> its folder, in the order of the rows.
        more: sections behind the verdicts.

    Returns:
        The files written.

    Raises:
        UsageError, UntrustedError: see `Run.open`.
    """
    seen = compare(runs)
    verdict, *others = with_more(seen.sections, more)
    html = page(title=seen.title, subtitle=seen.subtitle, answer=seen.headline, tone="", tag="", verdict=verdict, sections=others)
    texts = {"report.html": html, "report.md": document(seen.title, seen.subtitle, [verdict, *others])}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def to_text(runs: Mapping[str, Path], more: Sequence[Section] = ()) -> str:
    """The comparison as Markdown. Raises as `render_comparison`."""
    seen = compare(runs)
    return document(seen.title, seen.subtitle, with_more(seen.sections, more))


def with_more(sections: Sequence[Section], more: Sequence[Section]) -> list[Section]:
    """Sections put in behind the verdicts."""
    return [sections[0], *more, *sections[1:]]


def regression_section(rows: Sequence[Requirement], rule: Qualification) -> Section:
    """What became worse, by how much, and whether that is more than the limit."""
    return Section("regressions", "Regressions", [f"{counts(rows)}."], rows_tables(rule.name.capitalize(), rows, rule))


def compare(folders: Mapping[str, Path]) -> Comparison:
    """Put runs beside one another; unlike ones are never averaged, and what differs is named."""
    runs = {name: Run.open(folder) for name, folder in folders.items()}
    models = dict.fromkeys(run.record.model.name for run in runs.values())
    unlike = list(differences({name: run.record for name, run in runs.items()}))
    unfinished = [
        f"{name} has not finished ({run.record.status}), so that its figures are missing: "
        f"harness bench --resume {shlex.quote(str(folders[name]))}"
        for name, run in runs.items()
        if run.record.status != Step.FINISHED
    ]
    judged = otherwise_judged({name: run.record for name, run in runs.items() if run.record.claims})
    elsewhere = otherwise_timed({name: run.record.device for name, run in runs.items()})
    paragraphs = [*map(clean, (f"{several(len(runs), 'run')} of {', '.join(models)}.", *unfinished, *unlike, *judged, *elsewhere))]
    sections = [
        Section("verdict", "Verdicts", paragraphs, [_verdicts(runs)] if runs else []),
        Section("engines", "Engines side by side", [], [_engines(runs)] if runs else []),
    ]
    if children := [row for (one, first), (other, second) in combinations(runs.items(), 2) for row in _changed(one, other, first, second)]:
        sections.append(_changes(children))
    if unlike:
        sections.append(Section("labels", "Answers that differ", ["Not compared: the runs differ in what is said above."]))
    elif len(runs) > 1:
        sections.append(_labels(runs))
    return Comparison(
        f"{', '.join(models) or 'Nothing'}: {several(len(runs), 'run')}", " · ".join(map(clean, runs)), "Comparison", sections
    )


def changed_verdict(runs: Sequence[Run]) -> int:
    """Exit code of the verdicts of runs against the first's: 0 all the same, 1 one refutes what the first did not, 3 one is another."""
    first, *later = (run.record.verdict for run in runs)
    refuted = [verdict is not None and verdict.exit_code == 1 for verdict in (first, *later)]
    if any(refuted) and not refuted[0]:
        return 1
    return 3 if any(verdict != first for verdict in later) else 0


def differences(records: Mapping[str, RunRecord]) -> Iterator[str]:
    """What makes runs unlike, a sentence each: which two values differ."""
    for what in ALIKE:
        values = {name: _identity(record)[what] for name, record in records.items()}
        if len(set(values.values())) > 1:
            listed = "; ".join(f"{name}: {str(value)[:12]}" for name, value in values.items())
            yield f"The runs differ in the {what} ({listed})."


def otherwise_judged(records: Mapping[str, RunRecord]) -> Iterator[str]:
    """What makes claims of runs another question though answers can be compared, a sentence each: which values differ."""
    asked = {name: _question(record) for name, record in records.items()}
    for what in ("radius", "margin", "attacks"):
        values = {name: question[what] for name, question in asked.items()}
        if len(set(values.values())) > 1:
            shared = frozenset.intersection(*values.values())
            listed = "; ".join(f"{name}: {', '.join(sorted(value - shared)) or 'no other'}" for name, value in values.items())
            yield f"The runs differ in the {what} ({listed}): their gaps and verdicts answer different questions."


def otherwise_timed(devices: Mapping[str, DeviceRecord]) -> Iterator[str]:
    """Where one name of a device stands for several machines, or engines had other threads, a sentence each: what each run was timed on."""
    for device in dict.fromkeys(device.name for device in devices.values()):
        places = {name: place for name, one in devices.items() if one.name == device and (place := one.timed_on)}
        if len(set(places.values())) > 1:
            listed = "; ".join(f"{name}: {place}" for name, place in places.items())
            yield f"{device} is not one machine ({listed}): times and memory are of different hardware."
    threads = {name: device.timed_with for name, device in devices.items() if device.timed_with}
    if len(set(threads.values())) > 1:
        listed = "; ".join(f"{name}: {number}" for name, number in threads.items())
        yield f"The engines had other numbers of threads ({listed}): times and memory are of different settings."


def _question(record: RunRecord) -> dict[str, frozenset[str]]:
    """What the claims of a run rest on. Of the attacks those on the twin, which every flavour has."""
    return {
        "radius": frozenset(claim.eps_exact for claim in record.claims),
        "margin": frozenset(allowed(claim.margin) for claim in record.claims),
        "attacks": frozenset(f"{one.source} {one.name}" for one in record.attacks if one.target == TWIN and one.source not in NO_ATTACK),
    }


def _identity(record: RunRecord) -> dict[str, object]:
    return dict(zip(ALIKE, (record.model.sha256, record.data.sha256, record.data.n, record.seed), strict=True))


def _verdicts(runs: Mapping[str, Run]) -> Table:
    rows = [
        (
            name,
            Cell(claim.verdict, TONES[claim.verdict]),
            claim.engine,
            claim.eps_exact,
            estimated(claim.twin_robust),
            estimated(claim.engine_robust),
            points(claim.gap, claim.margin),
            NONE if claim.lower is None else f"[{points(claim.lower, claim.margin)}, {points(claim.upper, claim.margin)}]",
            count(claim.n),
        )
        for name, run in runs.items()
        for claim in run.record.claims
    ]
    columns = ("Run", "Verdict", "Engine", "ε", "Twin, worst case", "Engine, worst case", "Gap", "Bounds", "n")
    return table("Claims", columns, rows, numbers=range(4, 9), note="As in each run's own report, where the reasons are.")


def _engines(runs: Mapping[str, Run]) -> Table:
    batches = sorted({batch for run in runs.values() for e in run.record.engines for batch in e.latency}, key=int)
    rows: list[Sequence[str | Cell]] = [
        (
            name,
            Cell(engine.status, "good" if engine.status == "ok" else "bad"),
            engine.name,
            f"{engine.runtime} {engine.runtime_version or ''}",
            estimated(engine.clean),
            *(median(run.record, engine, batch) for batch in batches),
            WITHHELD if run.record.device.emulated else size(engine.memory.peak_bytes),
            tag(run.record) or "measured",
        )
        for name, run in runs.items()
        for engine in run.record.engines
    ]
    medians = [f"p50, batch {batch}" for batch in batches]
    columns = ("Run", "Status", "Engine", "Runtime", "Clean", *medians, "Peak memory", "Figures are")
    return table("Engines", columns, rows, numbers=range(4, len(columns) - 1))


def median(record: RunRecord, engine: EngineRecord, batch: str) -> str:
    """The median latency of an engine as text, or the word why there is none."""
    if record.device.emulated:
        return WITHHELD
    found = engine.latency.get(batch)
    return NONE if found is None else INVALID if found.invalid else milliseconds(found.p50)


def _changes(rows: Sequence[tuple[str, ...]]) -> Section:
    """What a network and another one made of it, or any two of the same classes, answer to the same clean images."""
    note = (
        "Both networks on the same clean images, float twins and engines of one name each; the accuracies can be equal where many labels "
        "changed. Another label, wrong before and after: both are wrong, each in its own way."
    )
    columns = ("Runs", "Model", "Clean images", "Labels changed", "Right, then wrong", "Wrong, then right", "Wrong before and after")
    return Section(
        "changes", "Labels that changed", [], [table("One network against the other", columns, rows, numbers=range(2, 7), note=note)]
    )


def _changed(one: str, other: str, first: Run, second: Run) -> Iterator[tuple[str, ...]]:
    """A row for the twins of two runs of different networks on the same images, and for each engine that both have."""
    records = first.record, second.record
    same_images, same_network = (len({key(record) for record in records}) == 1 for key in (_images, lambda record: record.model.sha256))
    if same_network or not same_images or first.samples.empty or second.samples.empty:
        return
    clean = [run.samples[run.samples["attack"] == "clean"] for run in (first, second)]
    engines = [name for name in clean[0]["engine"].unique() if name in set(clean[1]["engine"])]
    shown = {"twin": (clean[0]["engine"].iloc[0], clean[1]["engine"].iloc[0], "twin_prediction")}
    shown |= {str(name): (name, name, "engine_prediction") for name in engines}
    for model, (before, after, column) in shown.items():
        rows = [part[part["engine"] == name].set_index("index") for part, name in zip(clean, (before, after), strict=True)]
        both = rows[0].add_suffix("_before").join(rows[1].add_suffix("_after"), how="inner")
        was, now, label = both[f"{column}_before"], both[f"{column}_after"], both["label_before"]
        changed = was != now
        kinds = (changed, changed & (was == label), changed & (now == label), changed & (was != label) & (now != label))
        yield (f"{one} – {other}", model, count(len(both)), *(count(int(kind.sum())) for kind in kinds))


def _images(record: RunRecord) -> tuple[object, ...]:
    """What must be the same for the clean images of two runs to be, and their classes."""
    return record.data.sha256, record.data.n_clean, record.model.classes


def _labels(runs: Mapping[str, Run]) -> Section:
    """How many images two runs label differently, per engine, on the clean images and on the adversarial sets that are the same bytes."""
    seen = {name: run for name, run in runs.items() if not run.samples.empty}
    rows = [row for (one, first), (other, second) in combinations(seen.items(), 2) for row in _differing(one, other, first, second)]
    note = (
        "Artefact: whether the two engines are the same file, by its SHA-256; where it is another, two engines differ and not two devices. "
        "Counted are images of the same bytes: the clean ones, and adversarial sets of the same SHA-256, all sources together. Sets of "
        "other images are not compared."
    )
    columns = ("Runs", "Engine", "Artefact", "Clean images", "labels differ", "Adversarial images", "labels differ", "Sets of other images")
    return Section(
        "labels", "Answers that differ", [], [table("The same images, another label", columns, rows, numbers=range(3, 8), note=note)]
    )


def _differing(one: str, other: str, first: Run, second: Run) -> Iterator[tuple[str, ...]]:
    """The rows of two runs of the same data, one per engine that both have."""
    import pandas as pd

    answers = [run.samples.set_index(KEY)["engine_prediction"].rename(name) for name, run in (("first", first), ("second", second))]
    both = pd.concat(answers, axis=1, join="inner").reset_index()
    both["differs"] = both["first"] != both["second"]
    same, unlike = _sets(first.record, second.record)
    keys = zip(both["source"], both["target"], both["attack"], both["eps"], strict=True)
    shown = pd.Series([key in same for key in keys], index=both.index, dtype=bool)
    for engine, part in both.groupby("engine"):
        is_clean = part["attack"] == "clean"
        kinds = (is_clean, ~is_clean & shown[part.index])
        counts = [(int(kind.sum()), int((part["differs"] & kind).sum())) for kind in kinds]
        files = {e.artefact_sha256 for run in (first, second) for e in run.record.engines if e.name == engine}
        artefact = "not known" if None in files else "the same" if len(files) == 1 else "another"
        yield (f"{one} – {other}", str(engine), artefact, *(count(number) for pair in counts for number in pair), count(len(unlike)))


def _sets(first: RunRecord, second: RunRecord) -> tuple[set[SetKey], set[SetKey]]:
    """The adversarial sets that are the same bytes in two runs, and those that are not, or in one alone."""
    hashes = [{(a.source, a.target, a.name, a.eps_exact): a.set_sha256 for a in record.attacks} for record in (first, second)]
    every = hashes[0].keys() | hashes[1].keys()
    same = {key for key in every if hashes[0].get(key) == hashes[1].get(key)}
    return same, every - same
