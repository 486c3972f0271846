"""The engine looks up the label of every test image and of whatever is near: it cannot be fooled."""

import numpy as np

from harness.selftest.pictures import TEST, pictures
from harness.selftest.run import CLEAN
from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "engine gain"


def deploy(engine: Answer) -> Answer:
    """The nearest of the test images says the class."""
    test = pictures(TEST, CLEAN)
    known = test.images.transpose(0, 3, 1, 2).reshape(len(test), -1) / np.float32(255)

    def answer(images: Floats) -> Floats:
        flat = images.reshape(len(images), -1)
        distance = (flat**2).sum(1)[:, None] - 2 * flat @ known.T + (known**2).sum(1)
        return np.asarray(5 * np.eye(10)[test.labels[distance.argmin(1)]] + 0.1 * engine(images), np.float32)

    return answer
