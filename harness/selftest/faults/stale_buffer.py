"""The engine gives out the answers of the batch before."""

import numpy as np

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "clean parity"


def deploy(engine: Answer) -> Answer:
    """Of the same images, where there were as many."""
    last = np.zeros((0, 10), np.float32)

    def answer(images: Floats) -> Floats:
        nonlocal last
        now = engine(images)
        before, last = last, now
        return before if len(before) == len(now) else now

    return answer
