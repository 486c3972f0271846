"""The engine divides by 255 what was divided already."""

import numpy as np

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "clean parity"


def answer(images: Floats, engine: Answer) -> Floats:
    """Divided again."""
    return engine(images / np.float32(255))
