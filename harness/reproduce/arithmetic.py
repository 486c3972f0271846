"""Where the paper's own figures do not hold: each fault computed from the figures themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import count as numbers
from math import floor
from statistics import median

import numpy as np
from scipy.stats import binomtest, fisher_exact

from harness.audit.statistics import ALPHA, mcnemar_p, wilson
from harness.reproduce.paper import Paper, Published, Row
from harness.reproduce.record import Fault

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
        *two_sizes(paper),
        *(Fault(where=one.where, what=one.what) for one in paper.noted),
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
    apart, together = p_apart(best, worst, paper), p_together(best, worst, paper)
    if apart < ALPHA:
        return
    if together is not None and together < ALPHA:
        paired = f"On the same images a paired test might, at best with p = {together:.2g} (McNemar); the answers per image are not printed"
    else:
        paired = "Nor could a paired test, were the images the same"
    yield Fault(
        where="FB_pgd_at, all systems but HYDRA",
        what=f"Even the best ({best.name}, {best.fb_pgd:g} %) and the worst ({worst.name}, {worst.fb_pgd:g} %) of {len(rows)} rows are not "
        f"told apart as independent samples of {paper.n} images (Fisher, p = {apart:.2g}). {paired}: the figures show no ranking.",
    )


def fewest(figures: Sequence[float], decimals: int = 0) -> int:
    """The smallest n of which every figure, in percent to so many decimals, is a whole count."""
    exact, half = [Fraction(str(figure)) for figure in figures], Fraction(1, 2 * 10**decimals)
    return next(n for n in numbers(1) if all(abs(Fraction(100 * round(f * n / 100), n) - f) <= half for f in exact))


def images(row: Row, paper: Paper) -> int:
    """The fewest images that a row's figures can come from, the paper's n at least."""
    return max(paper.n, fewest(row.figures, row.decimals))


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
                f"({system.source}): p = {p:.1g} at n = {paper.n}. The network measured was not the published one, or not loaded as such, "
                "or the figure is a slip.",
            )


def hydra(paper: Paper) -> Iterator[Fault]:
    """Labels, counts and order of HYDRA's rows."""
    rows = sorted((row for row in paper.row if row.sparsity is not None), key=lambda row: row.sparsity or 0)
    listed = ", ".join(f"{row.name.split()[-1]} is {1 / (1 - (row.sparsity or 0)):.0f}x" for row in rows)
    yield Fault(where="HYDRA", what=f"The labels are sparsities in percent, not ratios: {listed}.")
    if [row.fb_pgd for row in rows] == sorted(row.fb_pgd or 0 for row in rows):
        yield Fault(
            where="HYDRA",
            what=f"Robustness is printed as not falling with sparsity ({', '.join(f'{row.fb_pgd:g}' for row in rows)} % at "
            f"{', '.join(f'{100 * (row.sparsity or 0):g}' for row in rows)} % zeros); the published figures for it fall.",
        )
    network, unused, scores = paper.parameters["WRN-28-4"], paper.hydra.unused, paper.hydra.scores
    counted, last = network + unused + scores, rows[-1]
    kept = 1 - (last.sparsity or 0)
    if all(row.parameters == floor((1 - Fraction(str(row.sparsity))) * counted) for row in rows):
        yield Fault(
            where="P of HYDRA",
            what=f"{', '.join(f'{row.parameters:,}' for row in rows)} are the shares kept of {counted:,}, rounded down: multiplied, not "
            f"counted. WRN-28-4 has {network:,} parameters; the rest is a stage that the code builds and the forward never uses "
            f"({unused:,}) and an importance score for each weight ({scores:,}), which training keeps and the network does not need. "
            f"{100 * kept:.0f} % of the network would be {floor(kept * network):,}.",
        )


def one_bit(paper: Paper) -> Iterator[Fault]:
    """The row that a claim rests on."""
    row = paper.named("w1a1")
    if row.cw_l2 is None or row.fb_pgd is None or row.gamma is None:
        return
    n = images(row, paper)
    yield Fault(
        where=row.name,
        what=f"{row.cw_l2:.{row.decimals}f} % is no multiple of {100 / paper.n:g} %: to {row.decimals} decimals, it and "
        f"{row.fb_pgd:.{row.decimals}f} % take at least n = {n}, another sample than the other rows'.",
    )
    yield Fault(
        where="C&W-L2",
        what="It looks for the smallest L2 change and has no L-inf radius: an accuracy under it says how often the search failed, or "
        "counts an L2 distance that is not stated. It does not stand in one column with accuracies at 8/255; the median distance "
        "does for itself.",
    )
    yield Fault(
        where=row.name,
        what=f"γ = {row.gamma:g} would need every layer at one bit. With the first and the last layer at 8 bits and batch norms in float "
        "it is less: see γ bits of our own.",
    )


def mixed_ratios(paper: Paper) -> Iterator[Fault]:
    """Ratios of distillation compare architectures."""
    teacher = paper.parameters["WRN-28-10"]
    known = next(one for one in paper.student if one.millions is not None)
    other = next(one for one in paper.student if one.network != known.network)
    yield Fault(
        where="γ of RSLAD, ARD, IAD",
        what=f"A ratio of two architectures, not a compression of one, whatever the method and whatever it did: {known.gamma:g} and "
        f"{other.gamma:g} are a teacher of {teacher:,} parameters (WRN-28-10) over {known.network} of {known.millions:g} M and "
        f"{other.network} of {teacher / other.gamma / 1e6:.1f} M. Such γ cannot be ranked beside those of pruning or quantization.",
    )


def two_sizes(paper: Paper) -> Iterator[Fault]:
    """One student with several P and γ."""
    teacher = paper.parameters["WRN-28-10"]
    for name in dict.fromkeys(one.network for one in paper.student):
        sized = [one for one in paper.student if one.network == name and one.millions is not None]
        if len({(one.millions, one.gamma) for one in sized}) < 2:
            continue
        listed = ", ".join(
            f"{one.millions:g} M and {one.gamma:g}x in {one.tables} of the tables (that teacher gives {teacher / one.millions / 1e6:.2f}x)"
            for one in sized
            if one.millions
        )
        own = paper.parameters[name]
        yield Fault(
            where=f"P and γ of {name}",
            what=f"The same student in two sizes: {listed}. For CIFAR-10 it has {own:,} parameters: {teacher / own:.2f}x.",
        )


def p_apart(one: Row, other: Row, paper: Paper) -> float:
    """Two-sided p of "no difference" between two rows under FB_pgd_at, each of its own images (Fisher's exact test)."""
    (a, n), (b, m) = ((round((row.fb_pgd or 0) / 100 * images(row, paper)), images(row, paper)) for row in (one, other))
    return float(fisher_exact(np.array([[a, n - a], [b, m - b]])).pvalue)


def p_together(one: Row, other: Row, paper: Paper) -> float | None:
    """The least two-sided p of McNemar's exact test that two rows under FB_pgd_at can have on the same images; None where n differs.

    With d more right in one than in the other, p is least where no image goes the other way: 2 / 2^d.
    """
    n = images(one, paper)
    if images(other, paper) != n:
        return None
    return mcnemar_p(abs(round((one.fb_pgd or 0) / 100 * n) - round((other.fb_pgd or 0) / 100 * n)), 0)
