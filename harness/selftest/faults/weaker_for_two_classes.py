"""For two of the ten classes the engine answers by another network, which was never trained against an adversary."""

import numpy as np

from harness.selftest.network import network
from harness.selftest.run import of_module
from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "engine parity"
CLASSES = (2, 7)


def deploy(engine: Answer) -> Answer:
    """As an ensemble of specialists does. Thirty queries do not find what an attack on the second network would."""
    other = of_module(network("standard"))

    def answer(images: Floats) -> Floats:
        own, theirs = engine(images), other(images)
        return np.where(np.isin(theirs.argmax(1), CLASSES)[:, None], theirs, own)

    return answer
