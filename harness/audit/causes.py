"""Why a network has fewer of its clean images right than it could: readings of the labels, and of the pixels, that would explain it.

A reading explains the figure where it has clearly more images right than the figure itself, than one class named for all, and than half
of them. Clearly are, of the labels, 95 % Wilson intervals that do not meet; of the pixels, which are read on fewer images, a gain on these
very images that chance makes in one of a thousand (Tango's lower bound). Two classes of many are in each other's place where most images of
either say so, and chance would make as many of two classes that nobody tells apart in fewer than one of twenty networks of so many classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import binom

from harness.audit.metrics import Labels
from harness.audit.paired import pair
from harness.audit.statistics import ALPHA, no_information_rate, share
from harness.records import Share

SURE = 0.999  # one of a thousand
MAPPING_IMAGES = 5  # per class: with fewer, some one-to-one mapping fits anything


def explain(labels: Labels, predictions: Labels, pixels: Mapping[str, Labels], classes: int) -> str:
    """The reading that explains most as a sentence, or nothing. Of equals the first: the simpler.

    Args:
        labels, predictions: int (n,), of the clean images.
        pixels: how the pixels might be meant -> predictions on images changed so, int (m,), m <= n, of the first m images. Where all
            labels are the same they tell nothing: a network that names that class whatever it sees has all images right.
        classes: of the network.
    """
    least, chance = share(int(np.sum(labels == predictions)), len(labels)).ci95[1], max(no_information_rate(labels, classes), 0.5)
    found = {name: seen for name, seen in _of_labels(labels, predictions) if seen.ci95[0] > max(least, chance)}
    for name, other in pixels.items() if len(np.unique(labels)) > 1 else ():
        those = labels[: len(other)]
        gain = pair(other == those, predictions[: len(other)] == those, margin=0.5, confidence=SURE)
        if gain.lower > 0 and gain.twin.ci95[0] > chance:
            found[name] = gain.twin
    found = found or dict(_swapped(labels, predictions))
    if not found:
        return ""
    name = max(found, key=lambda one: found[one].accuracy)
    return f"{name}: then {found[name].accuracy:.1%} of {found[name].n} would be right"


def _of_labels(labels: Labels, predictions: Labels) -> Iterator[tuple[str, Share]]:
    """Other numberings of the classes, the simplest first."""
    n = len(labels)

    def when(right: np.ndarray) -> Share:
        return share(int(np.sum(right)), n)

    yield "the labels seem to be one too low (the model has a class before the first)", when(predictions == labels + 1)
    yield "the labels seem to be one too high (they begin at 1)", when(predictions == labels - 1)
    for first in (0, 1):
        in_text_order = np.array(sorted(range(first, first + int(labels.max()) + 1), key=str)) - first
        text = f"the labels seem to be numbered by names sorted as text ({first}, {', '.join(('1', '10', '2')[first:])}, …)"
        yield text, when(predictions == in_text_order[labels])
    if n >= MAPPING_IMAGES * len(np.unique(labels)):
        yield "the classes seem to be in another order", when(_reordered(labels, predictions))


def _swapped(labels: Labels, predictions: Labels) -> Iterator[tuple[str, Share]]:
    """Two classes of many in each other's place, each named on most images of the other: all the others hide what that costs."""
    often = np.bincount(labels)
    named = {one: int(np.bincount(predictions[labels == one]).argmax()) for one in np.flatnonzero(often >= MAPPING_IMAGES).tolist()}
    for one, other in named.items():
        if one < other and named.get(other) == one:
            seen = [share(int(np.sum(predictions[labels == a] == b)), int(often[a])) for a, b in ((one, other), (other, one))]
            both = share(sum(each.correct for each in seen), sum(each.n for each in seen))
            chance = len(named) / 2 * binom.sf(both.correct - 1, both.n, 0.5)
            if min(each.accuracy for each in seen) > 0.5 and chance < ALPHA:
                yield f"the classes {one} and {other} seem to be in each other's place, by their own images", both


def _reordered(labels: Labels, predictions: Labels) -> np.ndarray:
    """Which images are right by the best order of the classes, bool (n,): each half of every class by the order that the other half tells,
    so that what chance makes of many classes is no order.
    """
    found = np.zeros(len(labels), np.bool_)
    half = np.empty(len(labels), np.int64)
    half[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % 2
    # Of those alone that occur: a network of 20,000 classes makes a table of all of them too large.
    (held, label), (named, prediction) = (np.unique(values, return_inverse=True) for values in (labels, predictions))
    for told, judged in ((half == 0, half == 1), (half == 1, half == 0)):
        table = np.zeros((len(held), len(named)), dtype=np.int64)
        np.add.at(table, (label[told], prediction[told]), 1)
        mapping = np.full(len(held), -1)
        rows, columns = linear_sum_assignment(table, maximize=True)
        mapping[rows] = columns
        found[judged] = prediction[judged] == mapping[label[judged]]
    return found
