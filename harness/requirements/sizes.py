"""Memory and files: one reading each."""

from __future__ import annotations

from harness.requirements.reading import Question, Reading, absent
from harness.requirements.timing import no_time


def memory(question: Question) -> Reading:
    """The worker's peak resident set less what it took before the runtime was imported."""
    return _measured(question, question.its.memory.peak_bytes, "Peak of one process.")


def device_memory(question: Question) -> Reading:
    """What the engine took of an accelerator's own memory."""
    return _measured(question, question.its.memory.device_bytes, "")


def artefact(question: Question) -> Reading:
    """The engine's file."""
    size = question.its.memory.artefact_bytes
    return absent("The engine has no file that was exported here.") if size is None else Reading(float(size))


def _measured(question: Question, size: int | None, note: str) -> Reading:
    if reason := no_time(question.run.raw, question.its):
        return absent(reason)
    return absent("The engine did not tell.") if size is None else Reading(float(size), reason=note)
