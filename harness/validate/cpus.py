"""The answers of the same engines on several devices, to the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from devices.host.profile import load_profile
from harness.answers import Answers, Logits
from harness.attacks.target import EngineTarget
from harness.settings import Settings
from harness.stack import ImageStack
from harness.stages.engines import open_engines, plan_engines
from harness.stages.export import Exported
from harness.stages.subject import Subject

Asked = tuple[Logits, ...] | str  # of each set; or why the engine gave none


def ask_on(
    device: str,
    subject: Subject,
    settings: Settings,
    exported: Sequence[Exported],
    asked: Mapping[str, ImageStack],
    place: Path,
    say: Callable[[str], None],
) -> dict[str, Asked]:
    """Open the engines on a device, emulated where its CPU is not this one's, and ask each about every set.

    Args:
        device: a profile's name.
        subject: what the engines were exported from.
        settings: of the run.
        exported: their artefacts.
        asked: hash -> images, uint8 (n, h, w, c).
        place: folder that keeps the answers.
        say: progress, a line each.

    Returns:
        Engine -> its logits, float32 (n, classes), of each set in turn; or the error that it ended with.

    Raises:
        DeviceError: the device cannot be reached or emulated.
    """
    profile = load_profile(device)
    there = replace(subject, profile=load_profile(device, emulate=True) if profile.emulation else profile)
    with open_engines(plan_engines(there, settings, exported), there, settings, place, say) as opened:
        answers: dict[str, Asked] = {name: str(error) for name, error in opened.failed.items()}
        for name, session in opened.sessions.items():
            model = EngineTarget(session)
            answers[name] = tuple(Answers(place).ask(model, sha256, shown) for sha256, shown in asked.items())
    return answers
