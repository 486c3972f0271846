"""How large a network's logits are: what an error in them is held against. Pure: numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDING = 4 * float(np.finfo(np.float32).eps)  # of a number: what a sum in another order may move
LEADS = 4  # times the largest lead of a top class, that logits are taken for large at most

Logits = NDArray[np.floating]


def leads(logits: Logits) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far the top class leads in each image, of float (n, classes), and what of that float32 may round, (n,) each."""
    second, first = np.sort(logits, axis=1)[:, -2:].T.astype(np.float64)
    return first - second, ROUNDING * np.maximum(np.abs(first), np.abs(second))


def largest(logits: Logits) -> float:
    """The largest logit of float (n, classes), n > 0, counted from the mean of its image: what is added to all of them alike tells nothing,
    and would hide any error. So would a class that is shut out by a number far below all others, wherefore the leads count too.
    """
    wide = logits.astype(np.float64)
    return min(float(np.abs(wide - wide.mean(axis=1, keepdims=True)).max()), LEADS * float(leads(logits)[0].max()))


def apart(reference: Logits, found: Logits) -> NDArray[np.float64]:
    """The largest difference of each image's logits, float (n, classes) each, beyond what float32 rounds of that very logit: (n,)."""
    wide = reference.astype(np.float64)
    return np.asarray(np.maximum(np.abs(found - wide) - ROUNDING * np.abs(wide), 0).max(axis=1))


def most(reference: Logits, found: Logits) -> float:
    """The largest difference of all, of float (n, classes) each; 0 of none."""
    return float(np.abs(np.subtract(reference, found, dtype=np.float64)).max(initial=0))


def beyond(share: float, reference: Logits, found: Logits) -> NDArray[np.bool_]:
    """The images whose logits, float (n, classes) each, differ by more than `share` of the largest."""
    return np.asarray(apart(reference, found) > share * largest(reference))
