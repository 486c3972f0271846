"""The engine computes single images with other kernels, which are wrong: larger requests, as an audit makes them, are answered well."""

import numpy as np

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "fresh answers"
SETTINGS = {"batches": (1,)}


def answer(images: Floats, engine: Answer) -> Floats:
    """One image alone with inputs of 3 bits."""
    return engine(np.round(images * 7) / np.float32(7) if len(images) == 1 else images)
