"""Half precision overflows in the engine, on bright images."""

import numpy as np

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "ENGINE FAILED"


def answer(images: Floats, engine: Answer) -> Floats:
    """Sums of squares that float16 does not hold."""
    with np.errstate(over="ignore"):
        power = (400 * images.mean(axis=(1, 2, 3))).astype(np.float16) ** 2 * np.float16(3)
    return engine(images) + np.asarray(power - power, np.float32)[:, None]
