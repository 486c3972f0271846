"""Do attacks transfer between precisions of one network?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.audit.statistics import ALPHA, holm, mcnemar_p
from harness.validate.check import Check, Finding
from harness.validate.ground import Ground

BITS = {bits: f"resnet18x16-at-lowbit-{bits}" for bits in ("w8a8", "w4a4", "w2a2")}


def answer(ground: Ground) -> Finding:
    """Robust accuracy of every precision under the sets of every precision, PGD of 20 steps through straight-through gradients.

    Diagonal-dominant: each network is weakest under its own set. Confirmed: so it is for every network, by McNemar's test over the same
    images against each other set. Refuted: one is weaker under another's set by that test.
    """
    sets = {bits: ground.set_against(name, "pgd") for bits, name in BITS.items()}
    clean = {bits: ground.right(name, ground.attacked.images) for bits, name in BITS.items()}
    right = {(of, on): clean[on] & ground.right(BITS[on], sets[of]) for of in BITS for on in BITS}
    pairs = [(on, of) for on in BITS for of in BITS if of != on]
    ahead = dict(zip(pairs, _ahead([(right[on, on], right[of, on]) for on, of in pairs]), strict=True))
    table = "; ".join(f"{on} under sets of {', '.join(f'{of} {100 * right[of, on].mean():.1f} %' for of in BITS)}" for on in BITS)
    ours = f"{table}; n = {ground.samples}"
    if against := [pair for pair, sign in ahead.items() if sign < 0]:
        on, of = against[0]
        return Finding("refuted", ours, f"{on} is weaker under the set made on {of} than under its own (McNemar, 5 %, Holm)")
    stronger = sum(sign > 0 for sign in ahead.values())
    by_chance = f"in {stronger} of {len(pairs)} pairs (McNemar, 5 %, Holm), never the weaker"
    why = f"a network's own set is the stronger one by more than chance {by_chance}"
    return Finding("confirmed" if stronger == len(pairs) else "undecided", ours, why)


def _ahead(pairs: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> list[int]:
    """Of each pair (under its own set, under another's), who survives: 1 where fewer survive the network's own set than another's by more
    than chance, -1 for the reverse, 0 for neither.
    """
    counts = [(int((other & ~own).sum()), int((own & ~other).sum())) for own, other in pairs]
    adjusted = holm([mcnemar_p(*count) for count in counts])
    return [0 if p >= ALPHA else 1 if first > second else -1 for p, (first, second) in zip(adjusted, counts, strict=True)]


CHECK = Check(
    "precisions",
    "attacks transfer poorly between precisions: the matrix over 8, 4 and 2 bits is diagonal-dominant",
    "a transfer matrix of networks trained at each precision",
    "Fu et al., Double-Win Quant, ICML 2021",
    answer,
)
