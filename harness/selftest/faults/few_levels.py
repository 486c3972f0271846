"""The engine's input has two bits."""

import numpy as np

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "clean parity"


def answer(images: Floats, engine: Answer) -> Floats:
    """Four levels of each colour."""
    return engine(np.round(images * 3) / np.float32(3))
