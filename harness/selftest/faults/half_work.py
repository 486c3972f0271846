"""Asked to time itself, the engine computes a quarter of the images, and tells truly how long that took."""

import time

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "own clock"
SETTINGS = {"batches": (8,)}
HELLO = {"measure": True, "part": 0.25}
WORK_S = 0.0005  # each image


def answer(images: Floats, engine: Answer) -> Floats:
    """What it computes is right."""
    time.sleep(WORK_S * len(images))
    return engine(images)
