"""Images are halved and enlarged again on their way to the engine."""

import numpy as np

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "clean parity"


def answer(images: Floats, engine: Answer) -> Floats:
    """Every fourth pixel, four times."""
    return engine(np.repeat(np.repeat(images[:, :, ::2, ::2], 2, axis=2), 2, axis=3))
