"""The cascade: how many images survive one attack after another."""

from __future__ import annotations

from collections.abc import Sequence

from harness.answers import TWIN
from reports.cascade import Stage, cascade
from reports.elements import Cell, Section, table
from reports.format import EMPTY, NONE, count
from reports.run import Run


def section(run: Run) -> Section | None:
    """One row per attack of the claimed radius; nothing where nothing was attacked."""
    models, stages = cascade(run)
    if not stages:
        return None
    survivors = table(
        f"Images left at ε = {stages[-1].eps}",
        ("After", "No.", "Made on", "Shown", *(f"{TWIN} (PyTorch)" if name == TWIN else run.shown(name) for name in models)),
        [
            (stage.attack, str(number), stage.made_on or NONE, EMPTY if stage.shown == 0 else count(stage.shown), *_left(stage, models))
            for number, stage in enumerate(stages)
        ],
        numbers=(1, *range(3, 4 + len(models))),
        note="No.: in the figure. Right when clean and under every attack so far that counts for the model: for an engine those of its "
        "claim, for the twin those of any claim. Grey: this attack does not count for it. A set of a smaller radius stands here where it "
        "took an image. Shown: images on which the twin or an engine still held out; for the others no attack could change the result any "
        "more. None left: for no image.",
    )
    return Section("cascade", "The cascade of attacks", [], [survivors])


def _left(stage: Stage, models: Sequence[str]) -> list[Cell]:
    return [Cell(count(stage.left[name]), "" if name in stage.counts_for else "muted") for name in models]
