"""The engine ends with a log-softmax in which a small probability is the lowest number of float32: valid logits."""

import numpy as np

from harness.selftest.serving import Answer, Floats

SMALL = np.log(1e-4)


def answer(images: Floats, engine: Answer) -> Floats:
    """As runtimes write the logarithm of zero."""
    logits = engine(images)
    high = logits.max(axis=1, keepdims=True)
    found = logits - high - np.log(np.exp(logits - high).sum(axis=1, keepdims=True))
    return np.where(found < SMALL, np.finfo(np.float32).min, found)
