"""One bit for weights and activations: robust, or only hard to attack by gradients?"""

from __future__ import annotations

import numpy as np

from harness.audit.statistics import share, tango
from harness.reproduce.evaluate import PLAIN, TEMPERED
from harness.validate.check import Check, Finding
from harness.validate.ground import Ground, shown

NETWORK = "resnet18x16-at-lowbit-w1a1"
ATTACKS = (("apgd-ce", PLAIN), ("apgd-ce", TEMPERED), ("square", PLAIN))
NOTHING = 0.02  # a difference that would be none


def answer(ground: Ground) -> Finding:
    """PGD with Foolbox's defaults against the worst case with a temperature and with queries, on the same images (Tango's bounds)."""
    plain = ground.evaluation(NETWORK, "FB_pgd_at", PLAIN)
    survivors = [plain.survives, *(ground.evaluation(NETWORK, attack, source).survives for attack, source in ATTACKS)]
    worst = np.logical_and.reduce(survivors)
    pgd, left = (share(int(right.sum()), len(right)) for right in (plain.survives, worst))
    ours = f"{NETWORK}: PGD {shown(pgd)}; with Auto-PGD, a temperature and Square {shown(left)}"
    lower, upper = tango(int((plain.survives & ~worst).sum()), 0, len(worst))
    fall = f"these take {100 * (pgd.accuracy - left.accuracy):.1f} points more, at least {100 * lower:.1f}"
    if lower > 0:
        return Finding("confirmed", ours, fall)
    return (
        Finding("refuted", ours, f"these take {100 * upper:.1f} points more at most")
        if upper < NOTHING
        else Finding("undecided", ours, fall)
    )


CHECK = Check(
    "one-bit",
    "networks of one-bit weights and activations look robust to plain PGD and fall to attacks that do not follow its gradient",
    "78.01 % → 0.01 % (CIFAR-10, another network); the benchmarking paper ranks one bit first by PGD, 56.0 %",
    "Gupta and Ajanthan, AAAI 2022; Bernhard, Moellic and Dutertre, 2019",
    answer,
)
