"""The engine remembers the answers to requests of several images, and computes single ones each time."""

import time

import numpy as np

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "repeated inputs"
SETTINGS = {"batches": (1, 8)}
WORK_S = 0.001  # each image


def deploy(engine: Answer) -> Answer:
    """A table from requests to logits."""
    known: dict[bytes, Floats] = {}

    def answer(images: Floats) -> Floats:
        if len(images) == 1 or (key := images.tobytes()) not in known:
            time.sleep(WORK_S * len(images))
            found = np.array(engine(images))
            return found if len(images) == 1 else known.setdefault(key, found)
        return known[key]

    return answer
