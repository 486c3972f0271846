"""The engine takes bytes and divides by 255 itself."""

import numpy as np

from harness.selftest.serving import Answer, Floats


def answer(images: Floats, engine: Answer) -> Floats:
    """The same division."""
    levels = np.rint(255 * images).astype(np.uint8)
    return engine(levels.astype(np.float32) / np.float32(255))
