"""The radius was divided by 255 twice."""

from dataclasses import replace

from harness.stages.subject import Subject

CAUGHT_BY = "refused: level"


def subject(sound: Subject) -> Subject:
    """Less than one level of a byte: nothing could be changed."""
    return replace(sound, eps=sound.eps / 255)
