"""MLPerf Tiny's quality target."""

from __future__ import annotations

from harness.validate.check import Check, Finding
from harness.validate.ground import Ground, shown

TARGET = 0.85
FLAVOUR = "ort-int8-precise"  # exact kernels on every CPU: the file is judged, not this computer


def answer(ground: Ground) -> Finding:
    """Clean accuracy of the INT8 ResNet-8 on all images of the sample."""
    record = ground.run("tiny", model="resnet8", engines=[FLAVOUR], attacks=[], samples=ground.samples, batches=())
    (engine,) = record.engines
    if engine.clean is None:
        return Finding("not run", "–", engine.error or engine.status)
    kept = engine.clean.accuracy >= TARGET
    decided = engine.clean.ci95[0] >= TARGET or engine.clean.ci95[1] < TARGET
    why = f"the target is {'met' if kept else 'missed'}" + ("" if decided else " on these images; the interval holds it")
    return Finding(("confirmed" if kept else "refuted") if decided else "undecided", shown(engine.clean), why)


CHECK = Check(
    "tiny",
    "an INT8 ResNet-8 keeps its accuracy on CIFAR-10",
    "at least 85 %, the quality target",
    "MLPerf Tiny (Banbury et al., 2021)",
    answer,
)
