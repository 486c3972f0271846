"""Where the paper's own figures do not hold: each fault computed from the figures themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count as numbers
from statistics import median

import numpy as np
from scipy.stats import binomtest, fisher_exact

from harness.audit.statistics import ALPHA, wilson
from harness.reproduce.paper import Paper, Published
from harness.reproduce.record import Fault

NAMES = {"fb_pgd": "FB_pgd_at", "apgd_ce": "APGD-CE", "apgd_dlr": "APGD-DLR"}
FAR = 15  # points beyond the usual step from APGD-CE to APGD-DLR


def faults(paper: Paper, others: Sequence[Published]) -> list[Fault]:
    """Every fault found, in the order of the tables."""
    return [
        *sample_size(paper),
        *order(paper),
        *outliers(paper),
        *below_published(paper, others),
        *hydra(paper),
        *one_bit(paper),
        *mixed_ratios(paper),
    ]


def sample_size(paper: Paper) -> Iterator[Fault]:
    """What n must have been, and how little it tells apart."""
    figures = [value for row in paper.row if row.cw_l2 is None for value in row.linf.values()]
    n = fewest(figures)
    middle = round(median(figures) / 100 * paper.n)
    low, high = wilson(middle, paper.n)
    yield Fault(
        where="tables 3 to 8",
        what=f"All {len(figures)} L-inf figures are multiples of {100 / n:g} %: n is {n} or a multiple of it, most likely {paper.n}. "
        f"A figure of {100 * middle / paper.n:g} % then has a 95 % interval of {100 * low:.0f} to {100 * high:.0f} %, "
        f"±{50 * (high - low):.0f} points.",
    )
    rows = [row for row in paper.row if row.fb_pgd is not None and row.cw_l2 is None and row.system != "HYDRA"]
    best, worst = (pick(rows, key=lambda row: row.fb_pgd or 0) for pick in (max, min))
    p = fisher(best.fb_pgd or 0, worst.fb_pgd or 0, paper.n)
    if p >= ALPHA:
        yield Fault(
            where="FB_pgd_at, all systems but HYDRA",
            what=f"Even the best ({best.name}, {best.fb_pgd:g} %) and the worst ({worst.name}, {worst.fb_pgd:g} %) are not told apart "
            f"at n = {paper.n} (Fisher, p = {p:.2g}): no ranking among these {len(rows)} rows follows from the table.",
        )


def fewest(figures: Sequence[float]) -> int:
    """The smallest n of which every figure, in percent to one decimal, is a whole count."""
    return next(n for n in numbers(1) if all(abs(round(f * n / 100) * 100 / n - f) < 0.05 for f in figures))


def order(paper: Paper) -> Iterator[Fault]:
    """A weak attack beside strong ones."""
    both = [row for row in paper.row if row.fb_pgd is not None and row.apgd_ce is not None and row.apgd_dlr is not None]
    higher = [row for row in both if (row.fb_pgd or 0) > min(row.apgd_ce or 0, row.apgd_dlr or 0)]
    gap = median((row.fb_pgd or 0) - min(row.apgd_ce or 0, row.apgd_dlr or 0) for row in both)
    if gap <= 0:
        return
    yield Fault(
        where="FB_pgd_at",
        what=f"Foolbox's PGD with its default steps leaves more images than Auto-PGD in {len(higher)} of {len(both)} rows, by {gap:g} "
        "points in the median: it is the weaker attack, and its column overstates robustness.",
    )


def outliers(paper: Paper) -> Iterator[Fault]:
    """A row whose two Auto-PGD figures are further apart than anything else would explain."""
    steps = {row.name: row.apgd_ce - row.apgd_dlr for row in paper.row if row.apgd_ce is not None and row.apgd_dlr is not None}
    usual = median(steps.values())
    for name, step in steps.items():
        if abs(step - usual) > FAR:
            row = paper.named(name)
            yield Fault(
                where=name,
                what=f"APGD-DLR leaves {row.apgd_dlr:g} % where APGD-CE leaves {row.apgd_ce:g} %: a step of {step:g} points where the "
                f"other rows have {usual:g} in the median. Most likely a slip (a lost digit), not a property of the network.",
            )


def below_published(paper: Paper, others: Sequence[Published]) -> Iterator[Fault]:
    """Rows so far below the same method's published AutoAttack that chance at this n does not explain it.

    AutoAttack holds both Auto-PGDs and more, so its accuracy is never the higher one on the same network.
    """
    strong = [o for o in others if o.attack == "AutoAttack" and o.network.startswith("ResNet-18")]
    published = {o.system: min((other for other in strong if other.system == o.system), key=lambda other: other.robust) for o in strong}
    for row in paper.row:
        if row.system not in published or not row.linf:
            continue
        system, figure = published[row.system], min(row.linf.values())
        p = float(binomtest(round(figure / 100 * paper.n), paper.n, system.robust / 100, alternative="less").pvalue)
        if p < ALPHA / len(paper.row):
            yield Fault(
                where=row.name,
                what=f"{figure:g} % under one attack, where {system.network} has {system.robust:g} % under all of AutoAttack "
                f"({system.source}): p = {p:.1g} at n = {paper.n}. The network measured was not the published one, or not loaded as such.",
            )


def hydra(paper: Paper) -> Iterator[Fault]:
    """Labels, counts and order of HYDRA's rows."""
    rows = sorted((row for row in paper.row if row.sparsity is not None), key=lambda row: row.sparsity or 0)
    told = ", ".join(f"{row.name.split()[-1]} is {1 / (1 - (row.sparsity or 0)):.0f}x" for row in rows)
    yield Fault(where="HYDRA", what=f"The labels are sparsities in percent, not ratios: {told}.")
    if [row.fb_pgd for row in rows] == sorted(row.fb_pgd or 0 for row in rows):
        yield Fault(
            where="HYDRA",
            what=f"Robustness is printed as not falling with sparsity ({', '.join(f'{row.fb_pgd:g}' for row in rows)} % at "
            f"{', '.join(f'{100 * (row.sparsity or 0):g}' for row in rows)} % zeros); the published figures for it fall.",
        )
    dense, name = paper.parameters["WRN-28-4"], "WRN-28-4"
    kept = round(dense * (1 - (rows[-1].sparsity or 0)))
    yield Fault(
        where="HYDRA",
        what="P and γ include the importance scores, one per weight, that training keeps and the network does not need. Counted so, "
        f"for example, {name} at {100 * (rows[-1].sparsity or 0):g} % has {dense + kept:,} values for {dense:,} weights: γ = "
        f"{dense / (dense + kept):.2f} instead of {dense / kept:.0f}.",
    )


def one_bit(paper: Paper) -> Iterator[Fault]:
    """The row that a claim rests on."""
    row = paper.named("w1a1")
    if row.cw_l2 is None or row.fb_pgd is None:
        return
    n = fewest([row.fb_pgd, row.cw_l2])
    yield Fault(
        where=row.name,
        what=f"{row.cw_l2:g} % is no multiple of {100 / paper.n:g} %: it takes at least n = {n}, another sample than the other rows'.",
    )
    yield Fault(
        where="C&W-L2",
        what="It looks for the smallest L2 change and has no L-inf radius: an accuracy under it says how often the search failed, or "
        "counts an L2 distance that is not stated. It does not stand in one column with accuracies at 8/255; the median distance "
        "does for itself.",
    )
    yield Fault(
        where=row.name,
        what="γ = 32 would need every layer at one bit. With the first and the last layer at 8 bits and batch norms in float it is "
        "less: see γ bits of our own.",
    )


def mixed_ratios(paper: Paper) -> Iterator[Fault]:
    """Ratios of distillation compare architectures."""
    teacher = paper.parameters["WRN-34-10"]
    told = ", ".join(f"{name} {teacher / paper.parameters[name]:.1f}" for name in ("ResNet-18", "MobileNetV2"))
    yield Fault(
        where="γ of RSLAD, ARD, IAD",
        what=f"A ratio of two architectures, not a compression of one: WRN-34-10 over the student is {told}, whatever the method and "
        "whatever it did. Such γ cannot be ranked beside those of pruning or quantization.",
    )


def fisher(one: float, other: float, n: int) -> float:
    """Two-sided p of "no difference" between two figures in percent, each of its own n images (Fisher's exact test)."""
    a, b = round(one / 100 * n), round(other / 100 * n)
    return float(fisher_exact(np.array([[a, n - a], [b, n - b]])).pvalue)
