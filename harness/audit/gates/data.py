"""Gates on the images: those of the test, and those that calibrated the engine."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from harness.audit.copies import near_copies
from harness.audit.gates.table import decided, undecided
from harness.audit.metrics import Labels
from harness.audit.statistics import ALPHA, guesses_rate, no_information_rate, share
from harness.data.split import contents
from harness.limits import LIMITS, apart
from harness.records import Gate, Share

FEWEST_CALIBRATION = 30  # images, below which no course of their statistics is told
SURELY = 0.995  # a share that is all but one


def calibration_disjoint(calibration: NDArray[np.uint8], test: NDArray[np.uint8], *, set_aside: bool = False) -> Gate:
    """No image of `test` is, byte for byte, one of `calibration`, and next to none nearly; both uint8 (n, h, w, c).

    A near copy is one by `near_copies`: encoded anew, mirrored, brighter. One alone may be chance.

    Args:
        set_aside: this program drew `calibration` from the data that `test` is from. Then near copies say that the data hold pairs (two
            pictures of one thing), and nobody calibrated on what he is judged by: undecided.
    """
    same = np.isin(contents(test), contents(calibration))
    shared, near = int(same.sum()), int((near_copies(test, calibration) & ~same).sum())
    observed = f"{shared} of {len(test)} test images are among the {len(calibration)} calibration images"
    if near:
        observed += f", and {near} nearly, encoded anew or mirrored"
    passed: bool | None = shared == 0 and (near <= 1 or near <= LIMITS.near_copies * len(test))
    if set_aside and shared == 0 and not passed:
        passed = None
        observed += (
            ": undecided, since the data themselves hold images that are nearly alike, and the calibration images were set aside from them"
        )
    return decided("calibration disjoint", passed, observed)


def distinct_images(test: NDArray[np.uint8], labels: Labels) -> Gate:
    """How many images of `test`, uint8 (n, h, w, c), are copies of one before them, and how many of these have another label, int (n,)."""
    _, first, kind = np.unique(contents(test), return_index=True, return_inverse=True)
    before = first[kind]  # of each image, the first one like it
    copies, otherwise = len(test) - len(first), int(np.sum(labels[before] != labels))
    labelled = f", {otherwise} of them with another label" if otherwise else ""
    return decided("distinct images", copies <= LIMITS.copies * len(test), f"{copies} of {len(test)} test images are copies{labelled}")


def clean_accuracy(labels: Labels, predictions: Labels, classes: int, card: Share | None = None, cause: str = "") -> Gate:
    """The twin on clean images, int (n,) each, against chance and, on the same images, its card.

    Passed where it is better than the most frequent class alone or, of classes that are not as many each, than as many guesses of each
    class (one-sided exact binomial tests at 5 %; the second is Cohen's agreement beyond chance, 1960). Failed where it is neither and has
    fewer images right than half way from the most frequent class to all (95 % Wilson interval), or is below its card's; else undecided.

    Args:
        classes: of the network.
        card: what the card says of a test set of the same name.
        cause: a reading that would explain the figure, see `harness.audit.causes`: it is then of other labels or pixels than were meant.
    """
    chance = no_information_rate(labels, classes)
    found = share(int(np.sum(labels == predictions)), len(labels))
    guesses = guesses_rate(labels, predictions) if len(np.unique(labels)) > 1 else chance
    beaten = [rate for rate in (chance, guesses) if binomtest(found.correct, found.n, rate, alternative="greater").pvalue < ALPHA]
    passed = True if beaten else False if found.ci95[1] < (1 + chance) / 2 else None
    alone = "; all are of one class, and a class drawn by chance" if len(np.unique(labels)) == 1 else "; one class named for all"
    observed = f"{found.accuracy:.1%} of {found.n} images right{alone} would have {chance:.1%}"
    if beaten == [guesses]:
        observed += f", as many guesses of each class {guesses:.1%}"
    if card is not None:
        observed += f"; the card says {card.accuracy:.1%}"
        if found.ci95[1] < card.ci95[0]:
            passed = False
    if cause:
        passed = False
    return decided("clean accuracy", passed, observed + (f"; {cause}" if cause else "") + undecided(passed))


def calibration_images(covered: float, distances: Mapping[str, float], n: int, possible: float = 1.0) -> Gate:
    """Whether `n` calibration images are like the test images.

    Args:
        covered: share of the test images whose class, by the twin, is named among the calibration images too.
        distances: statistic of an image -> Kolmogorov-Smirnov distance between the two sets.
        n: calibration images; so few that chance makes the distance are not judged.
        possible: the share whose class the twin names on as many other test images.
    """
    least = LIMITS.calibration_cover * possible
    worst = max(distances, key=lambda name: distances[name])
    others = "" if possible > SURELY else f" (on as many other test images: of {possible:.0%})"
    observed = (
        f"the classes that the twin names on {n} calibration images are those of {apart(covered, least, 0, '%')} of the "
        f"test images{others}; the largest distance is {apart(distances[worst], LIMITS.calibration_distance, 2)} ({worst})"
    )
    if n < FEWEST_CALIBRATION:
        return decided("calibration images", None, f"undecided: {n} images are too few; {observed}")
    return decided("calibration images", covered >= least and distances[worst] <= LIMITS.calibration_distance, observed)
