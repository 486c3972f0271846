"""The engine swaps its first two classes where it is unsure."""

import numpy as np

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "clean parity"
UNSURE = 1.0


def answer(images: Floats, engine: Answer) -> Floats:
    """Below a margin."""
    logits = engine(images).copy()
    second, first = logits.argsort(axis=1)[:, -2:].T
    rows = np.arange(len(logits))
    unsure = rows[logits[rows, first] - logits[rows, second] < UNSURE]
    logits[unsure, first[unsure]], logits[unsure, second[unsure]] = logits[unsure, second[unsure]], logits[unsure, first[unsure]]
    return logits
