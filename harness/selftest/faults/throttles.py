"""The device throttles: the longer it works, the longer a call takes."""

import time

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "steady latency"
SETTINGS = {"batches": (1,)}
PLAN = {"measure_s": 3.0, "rounds": 6}


def deploy(engine: Answer) -> Answer:
    """A millisecond at first, twice as long after two seconds, and so on."""
    opened = time.monotonic()

    def answer(images: Floats) -> Floats:
        time.sleep(0.001 * 2 ** min((time.monotonic() - opened) / 2, 4))
        return engine(images)

    return answer
