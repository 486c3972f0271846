"""The engine ends in the middle of an attack."""

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "ENGINE FAILED"
REQUESTS = 60


def deploy(engine: Answer) -> Answer:
    """It crashes after so many requests."""
    asked = 0

    def answer(images: Floats) -> Floats:
        nonlocal asked
        asked += 1
        if asked > REQUESTS:
            raise MemoryError("out of memory")
        return engine(images)

    return answer
