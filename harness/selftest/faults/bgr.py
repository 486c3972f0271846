"""The engine takes its colours as BGR."""

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "clean parity"


def answer(images: Floats, engine: Answer) -> Floats:
    """Red and blue are swapped."""
    return engine(images[:, ::-1])
