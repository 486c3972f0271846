"""The engine's logits are multiplied by a constant."""

import numpy as np

from harness.selftest.serving import Answer, Floats


def answer(images: Floats, engine: Answer) -> Floats:
    """By three: no class and no order changes."""
    return np.float32(3) * engine(images)
