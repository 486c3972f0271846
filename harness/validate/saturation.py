"""INT8 arithmetic on a CPU without VNNI: two products of 255 x 127 added in 16 bits saturate."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from devices.host.errors import DeviceError
from devices.host.saturation import saturates
from devices.worker.environment import describe_machine
from harness.settings import Settings
from harness.stages.export import export_and_check
from harness.stages.subject import load_subject
from harness.validate.check import Check, Finding
from harness.validate.cpus import Asked, ask_on
from harness.validate.ground import Ground

MODEL, SHOWN, AVX2 = "resnet8", 32, "x86-avx2"
PLAIN, EXACT = "ort-int8", ("ort-int8-precise", "ort-int8-rr")


def answer(ground: Ground) -> Finding:
    """The same files on a CPU that saturates and on one that does not.

    Confirmed: the plain file answers otherwise on the one that saturates, and the two remedies are equal to the bit. Where this computer
    saturates itself, there is nothing exact to hold the 7-bit file against, so the plain file is held against the precise session.
    """
    settings = Settings(model=MODEL, data=ground.data, flavours=(PLAIN, *EXACT), attacks=(), samples=SHOWN, batches=(), seed=ground.seed)
    whole = load_subject(settings)
    subject = replace(whole, test=whole.test.subset(whole.index), index=np.arange(len(whole.index)))
    say, place = partial(print, file=sys.stderr), ground.folder / "saturation"
    exported = export_and_check(subject, settings, place / "artefacts", say)
    asked = {subject.test.sha256: subject.test.images}
    here = ask_on("host", subject, settings, exported, asked, place / "host", say)
    if saturates(describe_machine()["isa_flags"]):
        return _alone(here)
    try:
        there = ask_on(AVX2, subject, settings, exported, asked, place / AVX2, say)
    except DeviceError as error:
        return Finding("not run", "–", f"this CPU does not saturate, and none that does could be emulated: {error}")
    return _side_by_side(here, there)


def _alone(here: dict[str, Asked]) -> Finding:
    if why := _no_answer({flavour: here[flavour] for flavour in (PLAIN, EXACT[0])}):
        return Finding("not run", "–", why)
    others = _others(here[PLAIN], here[EXACT[0]])
    why = "this CPU saturates: the same file in a session with exact kernels"
    return Finding("confirmed" if others else "refuted", f"{PLAIN}: other logits on {others} of {SHOWN} images", why)


def _side_by_side(here: dict[str, Asked], there: dict[str, Asked]) -> Finding:
    if why := _no_answer(here) or _no_answer(there):
        return Finding("not run", "–", why)
    counts = {flavour: _others(here[flavour], there[flavour]) for flavour in (PLAIN, *EXACT)}
    ours = "; ".join(f"{flavour}: other logits on {others} of {SHOWN} images" for flavour, others in counts.items())
    removed = all(counts[flavour] == 0 for flavour in EXACT)
    why = "the remedies are equal to the bit" if removed else "a remedy is not equal to the bit"
    return Finding(
        "confirmed" if counts[PLAIN] and removed else "refuted", ours, f"this CPU against an emulated one with AVX2 alone: {why}"
    )


def _no_answer(asked: Mapping[str, Asked]) -> str:
    """Which engines gave no answers, and why; empty: all did. What is not there is not another answer."""
    return "; ".join(f"{flavour} gave no answers: {found}" for flavour, found in asked.items() if isinstance(found, str))


def _others(one: Asked, other: Asked) -> int:
    """Images with another logit."""
    return int((np.abs(np.subtract(one[0], other[0])).max(axis=1) > 0).sum())


CHECK = Check(
    "saturation",
    "products of unsigned and signed bytes saturate on a CPU without VNNI: one file, other answers; 7-bit weights or exact kernels mend it",
    "255·127 + 255·127 = 64,770, kept as 32,767",
    "onnxruntime's documentation on quantization (U8S8, x86-64)",
    answer,
)
