"""The engine computes only what it has not computed before: its latency is that of a look-up."""

import time

import numpy as np

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "repeated inputs"
SETTINGS = {"batches": (1,)}
WORK_S = 0.002


def deploy(engine: Answer) -> Answer:
    """A table from image to logits."""
    known: dict[bytes, Floats] = {}

    def one(image: Floats) -> Floats:
        if (key := image.tobytes()) not in known:
            time.sleep(WORK_S)
            known[key] = engine(image[None])[0]
        return known[key]

    return lambda images: np.stack([one(image) for image in images])
