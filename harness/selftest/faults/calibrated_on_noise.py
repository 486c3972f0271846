"""INT8 was calibrated on noise."""

from dataclasses import replace

import numpy as np

from harness.stages.subject import Subject

CAUGHT_BY = "calibration images"
FLAVOURS = ("ort-int8",)


def subject(sound: Subject) -> Subject:
    """Every pixel at random."""
    there = sound.calibration.images
    noise = np.random.default_rng(0).integers(0, 256, there.shape, np.uint8)
    return replace(sound, calibration=replace(sound.calibration, images=noise))
