"""The engine's answers drift while it runs."""

import numpy as np

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "fresh answers"
PER_REQUEST = 0.001


def deploy(engine: Answer) -> Answer:
    """A little brighter at every request, from the fortieth on."""
    asked = 0

    def answer(images: Floats) -> Floats:
        nonlocal asked
        asked += 1
        return engine(images + np.float32(PER_REQUEST * max(asked - 40, 0)))

    return answer
