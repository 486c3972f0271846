"""The engine's camera starts at the bottom row."""

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "clean parity"


def answer(images: Floats, engine: Answer) -> Floats:
    """The rows in reverse."""
    return engine(images[:, :, ::-1])
