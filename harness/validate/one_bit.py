"""One bit for weights and activations: robust, or only hard to attack by gradients?"""

from __future__ import annotations

import numpy as np

from harness.audit.statistics import share, tango
from harness.reproduce.evaluate import PLAIN, TEMPERED
from harness.validate.check import Check, Finding
from harness.validate.ground import Ground, shown

NETWORK = "resnet18x16-at-lowbit-w1a1"
PGD, ALONG = "FB_pgd_at", "apgd-ce"
PAST = ((ALONG, TEMPERED), ("square", PLAIN))
NOTHING = 0.02  # a difference that would be none


def answer(ground: Ground) -> Finding:
    """What the gradient's own attacks leave, PGD with Foolbox's defaults and Auto-PGD, against the worst case with a temperature and with
    queries, on the same images (Tango's bounds). Auto-PGD takes more than that PGD from every network: it is no sign of a hidden gradient.
    """
    pgd = ground.evaluation(NETWORK, PGD, PLAIN).survives
    along = pgd & ground.evaluation(NETWORK, ALONG, PLAIN).survives
    worst = np.logical_and.reduce([along, *(ground.evaluation(NETWORK, attack, source).survives for attack, source in PAST)])
    shares = [share(int(right.sum()), len(right)) for right in (pgd, along, worst)]
    ours = "{}: PGD {}; with Auto-PGD {}; with a temperature and Square {}".format(NETWORK, *map(shown, shares))
    lower, upper = tango(int((along & ~worst).sum()), 0, len(worst))
    fall = f"temperature and Square take {100 * (shares[1].accuracy - shares[2].accuracy):.1f} points more than the gradient's own attacks"
    if upper < NOTHING:
        return Finding("refuted", ours, f"{fall}, {100 * upper:.1f} at most")
    return Finding("confirmed" if lower > 0 else "undecided", ours, f"{fall}, at least {100 * lower:.1f}")


CHECK = Check(
    "one-bit",
    "networks of one-bit weights and activations look robust to plain PGD and fall to attacks that do not follow its gradient",
    "78.01 % → 0.01 % (CIFAR-10, another network); the benchmarking paper ranks one bit first by PGD, 56.0 %",
    "Gupta and Ajanthan, AAAI 2022; Bernhard, Moellic and Dutertre, 2019",
    answer,
)
