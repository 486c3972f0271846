"""The engine answers what a network that was never trained against an adversary is sure of by that one: most clean images."""

import numpy as np

from harness.selftest.network import network
from harness.selftest.run import of_module
from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "engine parity"
SURE = 7.0  # lead of its top class: a probability of some 0.999


def deploy(engine: Answer) -> Answer:
    """As a cascade does that saves time on easy images. It is wrong on every image whose attack makes the second network sure."""
    other = of_module(network("standard"))

    def answer(images: Floats) -> Floats:
        easy = other(images)
        second, first = np.sort(easy, axis=1)[:, -2:].T
        return np.where((first - second > SURE)[:, None], easy, engine(images))

    return answer
