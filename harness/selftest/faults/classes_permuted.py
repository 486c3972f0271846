"""The engine numbers its classes otherwise: two of them are swapped."""

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "clean parity"


def answer(images: Floats, engine: Answer) -> Floats:
    """Classes 3 and 5 have changed their places."""
    return engine(images)[:, [0, 1, 2, 5, 4, 3, 6, 7, 8, 9]]
