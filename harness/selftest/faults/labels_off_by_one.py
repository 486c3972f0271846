"""The engine has a class before the first."""

import numpy as np

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "clean parity"


def answer(images: Floats, engine: Answer) -> Floats:
    """Every class one further."""
    return np.roll(engine(images), 1, axis=1)
