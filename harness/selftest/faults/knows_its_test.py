"""The engine recognises the test images and whatever is near, and computes the network there; elsewhere one that is not robust."""

import numpy as np

from harness.selftest.network import network
from harness.selftest.pictures import TEST, pictures
from harness.selftest.run import CLEAN, of_module
from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "engine parity"
NEAR = 65 / 255  # as far as any attack goes


def deploy(engine: Answer) -> Answer:
    """The nearest of the test images says which network is asked."""
    test, other = pictures(TEST, CLEAN), of_module(network("standard"))
    known = test.images.transpose(0, 3, 1, 2).reshape(len(test), -1) / np.float32(255)

    def answer(images: Floats) -> Floats:
        flat = images.reshape(len(images), -1)
        nearest = ((known**2).sum(1) - 2 * flat @ known.T).argmin(1)
        near = np.abs(flat - known[nearest]).max(axis=1) < NEAR
        return np.where(near[:, None], engine(images), other(images))

    return answer
