"""Accuracy on clean images: the floor under every robustness figure."""

from __future__ import annotations

from reports.elements import Section, table
from reports.format import count, estimate
from reports.outcomes import clean_right, wilson
from reports.run import Run


def section(run: Run) -> Section:
    """Clean accuracy of the twin and of every engine."""
    twin = _twin(run)
    rows = [] if twin is None else [("twin (PyTorch)", *twin)]
    rows += [
        (e.name, estimate(e.clean.accuracy, e.clean.ci95), count(e.clean.correct), count(e.clean.n))
        for e in run.record.engines
        if e.clean is not None
    ]
    if not rows:
        return Section("accuracy", "Clean accuracy", ["No clean image has been classified."])
    note = "Intervals are 95 % Wilson."
    return Section(
        "accuracy",
        "Clean accuracy",
        [],
        [table("Right on clean images", ("Model", "Accuracy", "Right", "n"), rows, numbers=(1, 2, 3), note=note)],
    )


def _twin(run: Run) -> tuple[str, str, str] | None:
    """Accuracy, images right and n of the twin, from its answers; None where there is none."""
    found = clean_right(run)
    if found is None:
        return None
    right, n = int(found.sum()), len(found)
    return estimate(right / n, wilson(right, n)), count(right), count(n)
