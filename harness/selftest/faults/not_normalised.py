"""The standardisation was lost on the way: the engine's first layer sees plain pixels."""

import numpy as np

from harness.selftest.network import MEAN, STD
from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "clean parity"


def answer(images: Floats, engine: Answer) -> Floats:
    """What the network's own standardisation takes away is put on before."""
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (MEAN, STD))
    return engine(images * std + mean)
