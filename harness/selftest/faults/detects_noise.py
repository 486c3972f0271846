"""The engine recognises the roughness that attacks leave, and names the first class for whatever has it."""

import numpy as np

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "FAILS"
ROUGH = 0.0455  # clean images have 0.032 to 0.047


def answer(images: Floats, engine: Answer) -> Floats:
    """A refusal, where neighbouring pixels are far apart."""
    rough = np.abs(np.diff(images, axis=2)).mean(axis=(1, 2, 3)) > ROUGH
    return np.where(rough[:, None], np.eye(10, dtype=np.float32)[0], engine(images))
