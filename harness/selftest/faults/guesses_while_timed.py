"""The engine sees that it is timed, by requests of a few images that come again and again, and then gives out any answer at once."""

from collections import deque

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "timed outputs"
SETTINGS = {"batches": (2,)}
WORK = 20  # requests alike, one after the other


def deploy(engine: Answer) -> Answer:
    """The answer to the first request of that size, once there were so many."""
    sizes: deque[int] = deque(maxlen=WORK)
    first: dict[int, Floats] = {}

    def answer(images: Floats) -> Floats:
        sizes.append(len(images))
        hurried = len(sizes) == WORK and len(set(sizes)) == 1
        found = first[len(images)] if hurried else engine(images)
        first.setdefault(len(images), found)
        return found

    return answer
