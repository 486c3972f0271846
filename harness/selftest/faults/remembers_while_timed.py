"""The engine gives out what it remembers where many requests in turn held nothing new, as those that time it do."""

import time
from collections import deque

import numpy as np

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "repeated inputs"
SETTINGS = {"batches": (1,)}
WORK_S, ALIKE = 0.003, 20


def deploy(engine: Answer) -> Answer:
    """Its answers are right."""
    known: dict[bytes, Floats] = {}
    hits: deque[bool] = deque(maxlen=ALIKE)

    def answer(images: Floats) -> Floats:
        key = images.tobytes()
        hits.append(key in known)
        if sum(hits) == ALIKE:
            return known[key]
        time.sleep(WORK_S * len(images))
        return known.setdefault(key, np.array(engine(images)))

    return answer
