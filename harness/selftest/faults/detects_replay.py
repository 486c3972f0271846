"""The engine answers otherwise where an image is shown a second time."""

import numpy as np

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "determinism"


def deploy(engine: Answer) -> Answer:
    """From then on with more confidence."""
    known: set[bytes] = set()

    def answer(images: Floats) -> Floats:
        again = np.array([image.tobytes() in known for image in images])
        known.update(image.tobytes() for image in images)
        return engine(images) * np.where(again, np.float32(2), np.float32(1))[:, None]

    return answer
