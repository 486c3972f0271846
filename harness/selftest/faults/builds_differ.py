"""Two builds of one artefact do not answer alike."""

from itertools import count

import numpy as np

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "rebuild spread"
FLAVOURS = ("ort-int8",)
SETTINGS = {"builds": 2}
_NUMBER = count()


def deploy(engine: Answer) -> Answer:
    """The second one has inputs of 4 bits."""
    levels = np.float32(15 if next(_NUMBER) % 2 else 255)

    def answer(images: Floats) -> Floats:
        return engine(np.asarray(np.round(images * levels) / levels, np.float32))

    return answer
