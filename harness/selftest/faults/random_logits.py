"""The engine's answers change from call to call."""

import numpy as np

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "determinism"
_DRAW = np.random.default_rng()


def answer(images: Floats, engine: Answer) -> Floats:
    """By the last bits, as from sums in the order in which threads end."""
    logits = engine(images)
    return logits * np.asarray(1 + 1e-6 * _DRAW.standard_normal(logits.shape), np.float32)
