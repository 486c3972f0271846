"""The test images were saved as BGR."""

from dataclasses import replace

import numpy as np

from harness.stages.subject import Subject

CAUGHT_BY = "clean accuracy"


def subject(sound: Subject) -> Subject:
    """Red and blue are swapped, in the calibration images too."""
    test, calibration = (replace(one, images=np.ascontiguousarray(one.images[..., ::-1])) for one in (sound.test, sound.calibration))
    return replace(sound, test=test, calibration=calibration)
