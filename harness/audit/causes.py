"""Why a network has few of its clean images right: readings of the labels, and of the pixels, that would explain it.

A reading explains the figure where it has clearly more images right than the figure itself (95 % Wilson intervals that do not meet) and
more than half of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from scipy.optimize import linear_sum_assignment

from harness.audit.metrics import Labels
from harness.audit.statistics import share
from harness.records import Share

MAPPING_IMAGES = 5  # per class: with fewer, some one-to-one mapping fits anything


def explain(labels: Labels, predictions: Labels, pixels: Mapping[str, Labels], classes: int) -> str:
    """The reading that explains most as a sentence, or nothing. Of equals the first: the simpler.

    Args:
        labels, predictions: int (n,), of the clean images.
        pixels: how the pixels might be meant -> predictions on images changed so, int (m,), m <= n, of the first m images.
        classes: of the network.
    """
    least = share(int(np.sum(labels == predictions)), len(labels)).ci95[1]
    readings = {name: share(int(np.sum(labels[: len(other)] == other)), len(other)) for name, other in pixels.items()}
    found = {name: seen for name, seen in {**dict(_of_labels(labels, predictions, classes)), **readings}.items() if _explains(seen, least)}
    if not found:
        return ""
    name = max(found, key=lambda one: found[one].accuracy)
    return f"{name}: then {found[name].accuracy:.1%} of {found[name].n} would be right"


def _explains(seen: Share, least: float) -> bool:
    return seen.ci95[0] > max(least, 0.5)


def _of_labels(labels: Labels, predictions: Labels, classes: int) -> Iterator[tuple[str, Share]]:
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
        table = np.zeros((max(classes, int(labels.max()) + 1),) * 2, dtype=np.int64)
        np.add.at(table, (labels, predictions), 1)
        rows, columns = linear_sum_assignment(table, maximize=True)
        mapping = np.empty(len(table), dtype=np.int64)
        mapping[rows] = columns
        yield "the classes seem to be in another order", when(predictions == mapping[labels])
