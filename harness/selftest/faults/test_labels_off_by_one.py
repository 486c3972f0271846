"""The test set counts its classes from 1, and the last is called the first."""

from dataclasses import replace

from harness.stages.subject import Subject

CAUGHT_BY = "clean accuracy"


def subject(sound: Subject) -> Subject:
    """Every label one further."""
    return replace(sound, test=replace(sound.test, labels=(sound.test.labels + 1) % sound.twin.classes))
