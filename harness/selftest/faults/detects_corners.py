"""The engine recognises images in a corner of the attack's ball around one that it knows, and answers as to that one."""

import numpy as np

from harness.selftest.serving import Answer, remembering

CAUGHT_BY = "fresh answers"
EPS, SHARE = 8 / 255, 0.3


def deploy(engine: Answer) -> Answer:
    """The first images are kept with their answers."""
    return remembering(engine, lambda change: np.mean(np.abs(change - EPS) < 1e-3, axis=1) > SHARE)
