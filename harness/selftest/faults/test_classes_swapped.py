"""Two classes of the test set are called each other's name: the network is right on the others, well above chance."""

from dataclasses import replace

import numpy as np

from harness.stages.subject import Subject

CAUGHT_BY = "clean accuracy"


def subject(sound: Subject) -> Subject:
    """The fourth and the eighth."""
    labels = sound.test.labels
    return replace(sound, test=replace(sound.test, labels=np.select([labels == 3, labels == 7], [7, 3], labels)))
