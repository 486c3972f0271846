"""The engine's logits are shifted by a constant."""

import numpy as np

from harness.selftest.serving import Answer, Floats


def answer(images: Floats, engine: Answer) -> Floats:
    """By three."""
    return engine(images) + np.float32(3)
