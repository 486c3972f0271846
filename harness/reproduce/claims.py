"""The paper's three claims, put to our networks: paired tests on the same images, and what the paper's own figures come to.

An answer, with p McNemar's exact and two-sided, Holm-adjusted over the claim's pairs:

    REPRODUCED HERE        every pair gains, each with p < 5 %, and every row is in a pair
    NOT REPRODUCED HERE    none gains with p < 5 %, and at least one loses so (for "the most robust of all": one loss is enough)
    MIXED                  some gain, some do not
    UNDECIDED              no pair shows a gain or a loss, there is none to compare, or all gain and a row is in no pair

It is about the networks that were tried, and says nothing of others: the reason names their size and training. p is over the images: how
much two trainings of the same network differ is not in it. What a network that fails a gate has left is an upper bound: that it is the more
robust one of a pair does not count, that it is the less robust one does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import NormalDist

from harness.audit.metrics import Right
from harness.audit.paired import pair
from harness.audit.statistics import ALPHA, POWER, holm, mcnemar_p
from harness.reproduce.arithmetic import images, p_apart, p_together
from harness.reproduce.networks import Network
from harness.reproduce.paper import Paper, Row
from harness.reproduce.record import Answer, ClaimAnswer, Pairing
from harness.training.recipe import Stage

PRUNING, DISTILLATION, ONE_BIT = (
    "Pruning raises robustness",
    "Introspective distillation is better than ARD",
    "w1a1 is the most robust",
)
FEW = 4  # pairs that are named


@dataclass(frozen=True)
class Attacked:
    """A network, and bool (n,): it is right when clean and under every attack. `unsound`: the gates that its evaluation fails, in words."""

    network: Network
    right: Right
    unsound: str | None = None


Rows = Mapping[str, Sequence[Attacked]]
"""Row of the paper -> our networks of that kind."""


def pruning(paper: Paper, rows: Rows, known: Sequence[Attacked]) -> ClaimAnswer:
    """Each pruned and retrained network against the one it was made of."""
    names = [row.name for row in paper.row if row.system in ("RAP-ADMM", "HYDRA") and row.ours.method and not row.ours.until]
    by_sha256 = {one.network.sha256: one for one in known}
    pairs = [(one, by_sha256[sha]) for name in names for one in rows[name] if (sha := str(one.network.parent_sha256)) in by_sha256]
    best = max((paper.named(name) for name in names if name.startswith("RAP")), key=lambda row: row.fb_pgd or 0)
    own = printed(best, paper.named("RAP pre"), paper)
    extra = "A retrained network has had more epochs than its parent: a gain would not be pruning's alone." if pairs else ""
    return decide(PRUNING, pairs, own, missing(names, rows, pairs), extra=extra)


def distillation(paper: Paper, rows: Rows) -> ClaimAnswer:
    """Each IAD student against the ARD student of the same architecture and the same teacher."""
    iad, ard = ("IAD-I", "IAD-II"), ("ARD → ResNet", "ARD → MobileNet")
    pairs = [
        (one, other)
        for one, other in product((n for name in iad for n in rows[name]), (n for name in ard for n in rows[name]))
        if one.network.arch == other.network.arch and one.network.parent_sha256 == other.network.parent_sha256
    ]
    own = " ".join(printed(paper.named(name), paper.named(ard[0]), paper) for name in iad)
    return decide(DISTILLATION, pairs, own, missing((*iad, ard[0]), rows, pairs), extra=unlike(pairs))


def one_bit(paper: Paper, rows: Rows, known: Sequence[Attacked]) -> ClaimAnswer:
    """Each w1a1 network against every other one."""
    w1a1 = list(rows["w1a1"])
    mine = {one.network.sha256 for one in w1a1}
    others = [other for other in known if other.network.sha256 not in mine]
    row = paper.named("w1a1")
    best = max((r for r in paper.row if r.system != row.system), key=lambda r: r.fb_pgd or 0)
    own = printed(row, best, paper) + (
        " Plain PGD on a one-bit network measures its gradients: the same kind of network fell from 78.01 % to 0.01 % under PGD++ (Gupta & "
        "Ajanthan 2022)."
    )
    pairs = list(product(w1a1, others))
    absent = missing([row.name for row in paper.row], rows, pairs) if w1a1 else ["w1a1"]
    return decide(ONE_BIT, pairs, own, absent, any_loss_refutes=True)


def missing(names: Sequence[str], rows: Rows, pairs: Sequence[tuple[Attacked, Attacked]]) -> list[str]:
    """The rows that no pair speaks of."""
    spoken = {one.network.sha256 for both in pairs for one in both}
    return [name for name in names if not any(one.network.sha256 in spoken for one in rows[name])]


def unlike(pairs: Sequence[tuple[Attacked, Attacked]]) -> str:
    """In what the recipes of a pair differ, besides the method."""
    differences = []
    for one, other in pairs:
        for name, stage in one.network.stages.items():
            if name not in other.network.stages:
                continue
            first, second = Stage(**stage).model_dump(), Stage(**other.network.stages[name]).model_dump()
            differ = [key for key in first if first[key] != second[key]]
            differences += [f"{key} {first[key]} for {one.network.name}, {second[key]} for {other.network.name}" for key in differ]
    return f"Their recipes differ: {'; '.join(differences)}." if differences else ""


def decide(
    claim: str,
    pairs: Sequence[tuple[Attacked, Attacked]],
    paper: str,
    absent: Sequence[str],
    *,
    any_loss_refutes: bool = False,
    extra: str = "",
) -> ClaimAnswer:
    """Judge "the first of each pair is the more robust"; see the rule above."""
    found = compared(pairs)
    shown = [(one, *both) for one, both in zip(found, pairs, strict=True) if one.p < ALPHA]
    gains = [one for one, first, _ in shown if one.gain > 0 and first.unsound is None]
    losses = [one for one, _, second in shown if one.gain < 0 and second.unsound is None]
    answer: Answer
    if not found:
        answer, reason = (
            "UNDECIDED",
            f"nothing to compare; in no pair: {', '.join(absent)}." if absent else "no two of our networks can be compared.",
        )
    elif losses and (any_loss_refutes or not gains):
        worst = min(losses, key=lambda one: one.gain)
        answer = "NOT REPRODUCED HERE"
        reason = f"{len(losses)} of {len(found)} pairs lose and {'none' if not gains else len(gains)} gain; the most: {words(worst)}."
    elif len(gains) == len(found):
        answer = "UNDECIDED" if absent else "REPRODUCED HERE"
        but = f", but in no pair: {', '.join(absent)}" if absent else ""
        reason = f"every pair gains ({len(found)} compared){but}; the least: {words(min(gains, key=lambda one: one.gain))}."
    elif gains:
        answer = "MIXED"
        reason = f"{len(gains)} of {len(found)} pairs gain, {len(losses)} lose; the most: {words(max(gains, key=lambda one: one.gain))}."
    else:
        nearest = min(found, key=lambda one: one.p)
        needed = f" About {nearest.n_required:,} images would decide that one." if nearest.n_required else ""
        answer, reason = "UNDECIDED", f"no pair shows a gain or a loss; the clearest: {words(nearest)}.{needed}"
    more = [open_pairs([one for one in found if one not in (*gains, *losses)]), *not_counted(pairs), *scope(pairs)] if found else []
    return ClaimAnswer(
        claim=claim, answer=answer, reason=" ".join(filter(None, [reason, *more, extra])), paper=paper, pairs=found, missing=list(absent)
    )


def open_pairs(left: Sequence[Pairing]) -> str:
    """The pairs that show neither, where they are few."""
    return f"Neither shown: {'; '.join(f'{one.first} less {one.second}' for one in left)}." if 0 < len(left) <= FEW else ""


def not_counted(pairs: Sequence[tuple[Attacked, Attacked]]) -> Iterator[str]:
    """The networks whose robustness is an upper bound."""
    for one in {one.network.sha256: one for both in pairs for one in both if one.unsound is not None}.values():
        yield f"{one.network.name} fails a gate ({one.unsound}): its robustness is an upper bound and counts only where it is the lower."


def scope(pairs: Sequence[tuple[Attacked, Attacked]]) -> Iterator[str]:
    """What kind of networks the answer is about."""
    tried = {one.network.sha256: one.network for both in pairs for one in both}.values()
    smallest, largest = (pick(int(network.card["parameters"]) for network in tried) for pick in (min, max))
    steps = sorted(set().union(*(network.inner_steps for network in tried)))
    against = f" against attacks of {' or '.join(map(str, steps))} steps" if steps else ""
    between = f"{smallest:,} parameters" if smallest == largest else f"{smallest:,} to {largest:,} parameters"
    yield f"Tried: networks of {between}, trained{against}. One training of each network: the spread between trainings is not in p."


def words(one: Pairing) -> str:
    """A pair in words."""
    low, high = one.bounds
    return (
        f"{one.first} less {one.second} {100 * one.gain:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}, p = {one.p:.2g}, n = {one.n})"
    )


def compared(pairs: Sequence[tuple[Attacked, Attacked]]) -> list[Pairing]:
    """Every pair's gain, interval and adjusted p."""
    seen = [pair(first.right, second.right, 0.0) for first, second in pairs]
    adjusted = holm([mcnemar_p(one.twin_only, one.engine_only) for one in seen])
    return [
        Pairing(
            first=first.network.name,
            second=second.network.name,
            n=one.n,
            gain=one.gap,
            bounds=(one.lower, one.upper),
            p=p,
            n_required=images_for(one.gap, (one.twin_only + one.engine_only) / one.n, ALPHA / len(pairs)),
        )
        for (first, second), one, p in zip(pairs, seen, adjusted, strict=True)
    ]


def images_for(gain: float, discordant: float, alpha: float = ALPHA) -> int | None:
    """Images that tell a paired gain from none, two-sided at `alpha`, 80 % power; None where there is no gain.

    n = (z_alpha/2 sqrt(psi) + z_power sqrt(psi - gain^2))^2 / gain^2 (Miettinen 1968, Biometrics 24:339-352).
    """
    if gain == 0:
        return None
    normal = NormalDist()
    root = normal.inv_cdf(1 - alpha / 2) * math.sqrt(discordant) + normal.inv_cdf(POWER) * math.sqrt(max(discordant - gain**2, 0.0))
    return math.ceil((root / gain) ** 2)


def printed(one: Row, other: Row, paper: Paper) -> str:
    """What two of the paper's rows say under FB_pgd_at, on different images and, where their n may be one, at best on the same."""
    if one.fb_pgd is None or other.fb_pgd is None:
        return f"{one.name} or {other.name} has no figure."
    figures = ", ".join(f"{row.name} {row.fb_pgd:g} % of {images(row, paper)}" for row in (one, other))
    apart, together = p_apart(one, other, paper), p_together(one, other, paper)
    paired = "" if together is None else f", at least {together:.2g} on the same (McNemar)"
    if apart < ALPHA:
        shown = "a difference that its own figures do show"
    elif together is not None and together < ALPHA:
        shown = "a difference that only its answers per image could show, which are not printed"
    else:
        shown = "no difference that its own figures can show"
    return f"The paper: {figures}: p = {apart:.2g} on different images (Fisher){paired}, {shown}."
