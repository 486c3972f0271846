"""INT8 was calibrated on test images that were mirrored and a little brighter."""

from dataclasses import replace

import numpy as np

from harness.stages.subject import Subject

CAUGHT_BY = "calibration disjoint"
FLAVOURS = ("ort-int8",)


def subject(sound: Subject) -> Subject:
    """None of them is a copy to the byte."""
    test = sound.test.subset(np.arange(len(sound.calibration)))
    brighter = np.clip(test.images[:, :, ::-1].astype(np.int16) + 2, 0, 255).astype(np.uint8)
    return replace(sound, calibration=replace(test, images=brighter))
