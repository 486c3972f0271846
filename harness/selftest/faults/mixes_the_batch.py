"""An image's answer depends on its neighbour in the batch: a buffer that is used twice."""

import numpy as np

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "fresh answers"


def answer(images: Floats, engine: Answer) -> Floats:
    """A tenth of the logits is the next image's."""
    logits = engine(images)
    return np.asarray(0.8 * logits + 0.2 * np.roll(logits, 1, axis=0), np.float32)
