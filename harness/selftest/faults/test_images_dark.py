"""The test images were divided by 255 before they were saved as bytes."""

from dataclasses import replace

from harness.stages.subject import Subject

CAUGHT_BY = "clean accuracy"


def subject(sound: Subject) -> Subject:
    """Only 0 and 1 are left of their 256 levels."""
    return replace(sound, test=replace(sound.test, images=sound.test.images // 255))
