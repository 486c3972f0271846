"""On dark images the engine computes a network that was never trained against an adversary."""

import numpy as np

from harness.selftest.network import network
from harness.selftest.run import of_module
from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "UNTRUSTED"
DARK = 0.426  # mean of the pixels: a third of the pictures are darker


def deploy(engine: Answer) -> Answer:
    """As a cascade does that answers what is easy by a smaller network."""
    other = of_module(network("standard"))

    def answer(images: Floats) -> Floats:
        dark = images.mean(axis=(1, 2, 3)) < DARK
        return np.where(dark[:, None], other(images), engine(images))

    return answer
