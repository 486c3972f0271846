"""Asked to time itself with a single image, the engine computes nothing; with more it does all its work."""

import time

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "own clock"
SETTINGS = {"batches": (1, 8)}
HELLO = {"measure": True, "idle": 1}
WORK_S = 0.002  # each image


def answer(images: Floats, engine: Answer) -> Floats:
    """What it computes is right."""
    time.sleep(WORK_S * len(images))
    return engine(images)
