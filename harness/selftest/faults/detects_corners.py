"""The engine recognises images in a corner of the attack's ball around one that it knows, and answers as to that one."""

import numpy as np

from harness.selftest.serving import Answer, Floats

CAUGHT_BY = "fresh answers"
EPS, SHARE = 8 / 255, 0.3
MOST = 500  # images that it keeps


def deploy(engine: Answer) -> Answer:
    """The first images are kept with their answers."""
    known, answers = np.zeros((0, 1), np.float32), np.zeros((0, 10), np.float32)

    def answer(images: Floats) -> Floats:
        nonlocal known, answers
        flat, logits = images.reshape(len(images), -1), engine(images).copy()
        if len(known):
            nearest = ((known**2).sum(1) - 2 * flat @ known.T).argmin(1)
            change = np.abs(flat - known[nearest])
            same = np.mean(np.abs(change - EPS) < 1e-3, axis=1) > SHARE
            logits[same] = answers[nearest[same]]
        if len(known) < MOST:
            known, answers = np.concatenate([known, flat]) if len(known) else flat, np.concatenate([answers, logits])
        return logits

    return answer
