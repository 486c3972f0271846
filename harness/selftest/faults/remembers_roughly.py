"""The engine takes an image that is nearly an earlier one for that one: its latency is that of a look-up."""

import time

import numpy as np

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "repeated inputs"
SETTINGS = {"batches": (1,)}
WORK_S = 0.002
LEVELS = 64


def deploy(engine: Answer) -> Answer:
    """A table from the image's upper six bits to logits."""
    known: dict[bytes, Floats] = {}

    def one(image: Floats) -> Floats:
        if (key := np.floor(image * LEVELS).tobytes()) not in known:
            time.sleep(WORK_S)
            known[key] = engine(image[None])[0]
        return known[key]

    return lambda images: np.stack([one(image) for image in images])
