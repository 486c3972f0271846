"""A reproduction as a report: the paper's tables beside ours, where they do not hold, and its claims answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from markupsafe import Markup

from harness.records import Median, Share
from harness.reproduce.record import REPRODUCE, Answer, ClaimAnswer, OurRow, ReproduceRecord, TableRow
from reports import fronts
from reports.elements import Cell, Section, Table, Tone, table
from reports.format import NONE, clean, estimate, percent, points, significant
from reports.html import page
from reports.markdown import document

TONES: dict[Answer, Tone] = {"REPRODUCED HERE": "good", "NOT REPRODUCED HERE": "bad", "MIXED": "warn", "UNDECIDED": "warn"}
COLUMNS = {"FB_pgd_at": "fb_pgd", "apgd-ce": "apgd_ce", "apgd-dlr": "apgd_dlr"}
SIZES = ("P of its parent", "P", "γ non-zero", "γ bits")
EXTRA = {"apgd-ce T": "APGD-CE with a temperature", "square": "Square"}


def render_reproduction(record: ReproduceRecord, folder: Path) -> list[Path]:
    """Write report.html and report.md into `folder`; returns them and the record's file."""
    verdict, *others = sections(record)
    drawn = {fronts.KEY: [(Markup(f.svg), f.caption, f.fold) for f in fronts.figures(record.fronts, "")]}  # noqa: S704 matplotlib escapes its texts
    title, subtitle = "The paper's tables beside ours", _subtitle(record)
    html = page(title=title, subtitle=subtitle, tag="", answer=title, tone="", verdict=verdict, sections=others, figures=drawn)
    texts = {"report.html": html, "report.md": document(title, subtitle, [verdict, *others])}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [*(folder / name for name in texts), folder / REPRODUCE]


def sections(record: ReproduceRecord) -> list[Section]:
    """What every format shows; the first is the answer."""
    return [
        Section("verdict", "The paper's claims", [answer(record)], [claims(record), *pairs(record)]),
        Section("tables", "Tables 3 to 8", [HOW.format(n=record.samples)], [paper_beside_ours(record), *beyond(record), adaptive(record)]),
        Section("missing", "Rows without a network", _none(missing(record)), missing(record)),
        Section(
            "faults",
            "Where the paper's own figures do not hold",
            ["Computed from the figures as printed, as far as they were transcribed (of P and γ only some), or noted from its tables."],
            [_faults(record)],
        ),
        Section("published", "What others published", [PUBLISHED], [_published(record)]),
        _recommended(record),
    ]


def _recommended(record: ReproduceRecord) -> Section:
    found = fronts.section(record.fronts)
    left_out = [f"{one.network} is no candidate by size, since a gate fails: {one.unsound}." for one in every(record) if one.unsound]
    return replace(found, paragraphs=[*found.paragraphs, *left_out, *([ENGINES] if len(record.fronts) > 1 else [])])


def every(record: ReproduceRecord) -> list[OurRow]:
    """All our networks, once each: those beside rows, then the others."""
    return list({one.sha256: one for one in (*(one for row in record.rows for one in row.ours), *record.others)}.values())


ENGINES = (
    "By size, the networks: right under every L-inf attack above. By latency and memory, their engines: right under those that a bench "
    "makes on the network and on the exported INT8 graph, without the two against hidden gradients."
)
HOW = (
    "Ours: n = {n}, accuracies in percent with 95 % Wilson intervals, each attack on every image that the network has right. "
    "Networks of this project are small and trained for few epochs: what is compared is the order of the rows, not their height."
)
PUBLISHED = "CIFAR-10, L-inf, 8/255, in percent: large networks, long schedules."


def answer(record: ReproduceRecord) -> str:
    """The three answers in a line."""
    return " ".join(f"{claim.claim}: {claim.answer}." for claim in record.claims)


def claims(record: ReproduceRecord) -> Table:
    """Each claim with its answer, and what the paper's figures come to."""
    return table(
        "Claims",
        ("Claim", "Answer", "Why", "The paper's own figures", "Rows in no pair"),
        [(c.claim, Cell(c.answer, TONES[c.answer]), c.reason, c.paper, ", ".join(c.missing) or NONE) for c in record.claims],
        note="REPRODUCED HERE: every pair gains, p below 5 %. NOT REPRODUCED HERE: none gains and at least one loses so; for 'the most "
        "robust' one loss is enough. MIXED: some gain, some do not. UNDECIDED: no pair shows either, or a row is in no pair. p: McNemar, "
        "exact, two-sided, Holm over the pairs of a claim. Here: of the networks that were tried, which are small.",
    )


def pairs(record: ReproduceRecord) -> list[Table]:
    """The pairs behind the answers."""
    rows = [row for claim in record.claims for row in _pairs(claim)]
    columns = ("Claim", "First", "Second", "Gain, points", "Bounds", "p", "n", "n to decide")
    note = "Gain: robust accuracy of the first less the second's, on the same images; bounds one-sided 95 % each (Tango)."
    return [table("Pairs", columns, rows, numbers=range(3, 8), note=note)] if rows else []


def _pairs(claim: ClaimAnswer) -> list[tuple[str, ...]]:
    return [
        (
            claim.claim,
            one.first,
            one.second,
            points(one.gain),
            f"[{points(one.bounds[0])}, {points(one.bounds[1])}]",
            significant(one.p),
            f"{one.n:,}",
            f"{one.n_required:,}" if one.n_required else NONE,
        )
        for one in claim.pairs
    ]


def paper_beside_ours(record: ReproduceRecord) -> Table:
    """Every row of the paper, and under it ours."""
    return table(
        "Robust accuracy, the paper's and ours",
        ("Row", "Network", "Clean", *COLUMNS, "Worst", "C&W-L2", *SIZES, "Epochs"),
        [line for row in record.rows for line in _lines(row)],
        numbers=range(2, 13),
        note="Paper: in percent, n is probably 50 (±14 points), without intervals. Worst: right under each of the L-inf attacks that "
        "were run, those against hidden gradients too. C&W-L2: the paper prints an accuracy, ours is the median distance of the nearest "
        "images that fool, with its 95 % interval; where none is found, it counts as infinitely far. P: parameters that are not zero, "
        "counted on the weights; γ non-zero: P of the network it came from over P (Eq. 14); γ bits: the same of the bits that store the "
        "weights, with a mask of one bit per weight where zeros are left out. The paper's P and γ: only what was transcribed and is known "
        "of a row. Of RSLAD, ARD and IAD both stand under Faults, since in which of their three tables each is printed was not noted. "
        f"{_attacks(record)}",
    )


def _lines(row: TableRow) -> list[Sequence[str | Cell]]:
    figures = [f"{row.paper[key]:g}" if key in row.paper else NONE for key in COLUMNS.values()]
    l2 = f"{row.paper['cw_l2']:g} %" if "cw_l2" in row.paper else NONE
    printed: list[str | Cell] = [
        Cell(row.name, "strong"),
        Cell("the paper", "muted"),
        NONE,
        *figures,
        NONE,
        l2,
        NONE,
        _count(row.parameters),
        NONE,
        NONE if row.gamma is None else f"{row.gamma:.2f}",
        NONE,
    ]
    if not row.ours:
        return [printed, ["", Cell("missing", "warn"), *[""] * 11]]
    return [printed, *(["", *our_cells(one)] for one in row.ours)]


def our_cells(one: OurRow) -> list[str]:
    """One of our networks, from its name to its epochs."""
    return [
        f"{one.network} ({one.arch})",
        _share(one.clean),
        *(_share(one.robust[name]) for name in COLUMNS),
        _share(one.worst),
        _distance(one.cw_l2),
        _count(one.parent_nonzero),
        _count(one.nonzero),
        *(NONE if one.gamma is None else f"{one.gamma[way]:.2f}" for way in ("nonzero", "weight_bits")),
        NONE if one.epochs is None else str(one.epochs),
    ]


def _count(parameters: int | None) -> str:
    return NONE if parameters is None else f"{parameters:,}"


def _share(share: Share) -> str:
    return estimate(share.accuracy, share.ci95).replace(" %", "")


def _distance(seen: Median | None) -> str:
    if seen is None:
        return NONE
    missed = f" ({seen.missing} of {seen.n} not found)" if seen.missing else ""
    return f"{significant(seen.value)} [{significant(seen.low)}, {significant(seen.high)}]{missed}"


def adaptive(record: ReproduceRecord) -> Table:
    """What the attacks against hidden gradients left."""
    return table(
        "Attacks against hidden gradients",
        ("Network", "Clean", *COLUMNS, *EXTRA.values(), "Worst", "Images without a gradient", "Fails"),
        [
            (
                one.network,
                _share(one.clean),
                *(_share(one.robust[name]) for name in (*COLUMNS, *EXTRA)),
                _share(one.worst),
                percent(one.zero_gradient),
                Cell("; ".join(one.failed), "bad" if one.unsound else "warn") if one.failed else NONE,
            )
            for one in every(record)
        ],
        numbers=range(1, 9),
        note="Temperature: the logits divided by the network's median margin, so that the cross-entropy does not saturate. Square asks for "
        "logits and takes no gradient. Where it leaves clearly fewer images than those that follow gradients, these measured "
        "gradients, not robustness: the gate fails, and what is left is an upper bound. Rounding: successes that no bytes near them keep.",
    )


def beyond(record: ReproduceRecord) -> list[Table]:
    """Networks that the paper has no row for."""
    columns = ("Network", "Clean", *COLUMNS, "Worst", "C&W-L2", *SIZES, "Epochs")
    return [table("Ours alone", columns, [our_cells(one) for one in record.others], numbers=range(1, 12))] if record.others else []


def missing(record: ReproduceRecord) -> list[Table]:
    """Rows that no network of ours stands beside."""
    rows = [(row.name, Cell(row.missing, "code")) for row in record.rows if row.missing]
    note = "Then: harness reproduce --networks networks"
    return [table("How they would be made", ("Row", "Command"), rows, note=note)] if rows else []


def _none(found: Sequence[Table]) -> list[str]:
    return [] if found else ["None."]


def _faults(record: ReproduceRecord) -> Table:
    return table("Faults", ("Where", "What"), [(fault.where, fault.what) for fault in record.faults])


def _published(record: ReproduceRecord) -> Table:
    return table(
        "Published robust accuracies",
        ("Method", "Network", "Clean", "Robust", "Attack", "Source"),
        [
            (f.system, f.network, NONE if f.clean is None else f"{f.clean:.2f}", f"{f.robust:.2f}", f.attack, f.source)
            for f in record.published
        ],
        numbers=(2, 3),
    )


def _attacks(record: ReproduceRecord) -> str:
    return " ".join(f"{name}: {how}." for name, how in record.attacks.items())


def _subtitle(record: ReproduceRecord) -> str:
    return (
        f"{clean(record.title)} ({clean(record.source)}) · ours: {clean(record.data)}, n = {record.samples:,}, ε = {clean(record.eps)}, "
        f"seed {record.seed} · {clean(record.created)} · edge-harness {clean(record.harness_version)}"
    )
