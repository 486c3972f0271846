"""The engine takes rows for columns."""

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "clean parity"


def answer(images: Floats, engine: Answer) -> Floats:
    """Width and height are swapped."""
    return engine(images.transpose(0, 1, 3, 2))
