"""How large a network's logits are: what an error in them is held against. Pure: numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDING = 4 * float(np.finfo(np.float32).eps)  # of the largest number in it: what a sum in another order may move


def rounding(logits: NDArray[np.floating]) -> float:
    """What float32 may round of float (n, classes), n > 0."""
    return ROUNDING * float(np.abs(logits).max())


def largest(logits: NDArray[np.floating]) -> float:
    """The largest logit of float (n, classes), n > 0, counted from the mean of its image: what is added to all of them alike tells nothing,
    and would hide any error.
    """
    return float(np.abs(logits - logits.mean(axis=1, keepdims=True)).max())


def allowed(share: float, logits: NDArray[np.floating]) -> float:
    """An error of `share` of the largest logit, and of what rounding makes of logits that have much in common."""
    return share * largest(logits) + rounding(logits)
