"""The engine computes small batches with other kernels, which are wrong."""

import numpy as np

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "fresh answers"
SMALL = 8


def answer(images: Floats, engine: Answer) -> Floats:
    """Below eight images with inputs of 3 bits."""
    return engine(np.round(images * 7) / np.float32(7) if len(images) < SMALL else images)
