"""The engine fills up every batch to its fixed size."""

import numpy as np

from harness.selftest.serving import Answer, Floats

SIZE = 32


def answer(images: Floats, engine: Answer) -> Floats:
    """With the first image, whose answers are dropped."""
    short = max(SIZE - len(images), 0)
    return engine(np.concatenate([images, np.repeat(images[:1], short, axis=0)]))[: len(images)]
