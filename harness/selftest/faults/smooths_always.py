"""The engine smooths every image: what the attacks added is gone."""

import numpy as np

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "clean parity"


def answer(images: Floats, engine: Answer) -> Floats:
    """Each pixel as the mean of nine."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    parts = [padded[:, :, i : i + images.shape[2], j : j + images.shape[3]] for i in range(3) for j in range(3)]
    return engine(np.mean(parts, axis=0, dtype=np.float32))
