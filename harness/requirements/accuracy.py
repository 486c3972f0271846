"""Accuracy, clean and under attack, of an engine and against its twin, from everyone's answers in the run folder."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from harness.answers import TWIN, Column, Matrix, Right
from harness.audit.paired import pair
from harness.audit.statistics import exact, n_for_share
from harness.errors import UntrustedError
from harness.requirements.doubts import no_answer, of_answers
from harness.requirements.reading import Bounds, Question, Reading, absent
from harness.sources import deciding
from reports.format import several


@dataclass(frozen=True)
class Side:
    """One model on the attacked images, bool (n,) each: right under the sets in question, and open: it was not shown all of them, because
    other sets had broken it before (see `harness.stages.attack`, the cascade).
    """

    right: Right
    open: Right

    @property
    def sure(self) -> Right:
        """Right, and shown everything."""
        return self.right & ~self.open


def clean_accuracy(question: Question) -> Reading:
    """The engine's share of right answers on all clean images."""
    engine = question.its
    if engine.clean is None:
        return absent(no_answer(engine) or "It was not asked about the clean images.")
    return _share(engine.clean.correct, engine.clean.correct, engine.clean.n, "clean", of_answers(question), "")


def clean_loss(question: Question) -> Reading:
    """The twin's clean accuracy less the engine's, on the same images."""
    matrix, engine = question.run.matrix, question.its
    if reason := no_answer(engine):
        return absent(reason)
    try:
        twin, right = (matrix.right(model) for model in (TWIN, engine.name))
    except UntrustedError as error:
        return absent(str(error))
    return paired_loss(twin, right, "clean", of_answers(question))


def robust_accuracy(question: Question) -> Reading:
    """The engine's worst case over the sets: right on the clean image and under every attack within the radius."""
    found = _under_attack(question)
    if isinstance(found, Reading):
        return found
    _, engine, note = found
    return _share(int(engine.sure.sum()), int(engine.right.sum()), len(engine.right), "attacked", of_answers(question), note)


def robustness_gap(question: Question) -> Reading:
    """The twin's worst case less the engine's, on the same images and sets."""
    found = _under_attack(question)
    if isinstance(found, Reading):
        return found
    twin, engine, note = found
    return _loss(twin, engine, "attacked", of_answers(question), note)


def primary_radius(question: Question) -> str | None:
    """The radius that the run's claims are about; None where nothing was claimed."""
    return next((claim.eps_exact for claim in question.run.raw.claims), None)


def _under_attack(question: Question) -> tuple[Side, Side, str] | Reading:
    """Twin and engine under the sets of a source (None: all that decide) within a radius, and what to know of it."""
    engine, source, text = question.its, question.options["source"], question.options["eps"] or primary_radius(question)
    if reason := no_answer(engine):
        return absent(reason)
    if text is None:
        return absent("Nothing was attacked in this run. Run `harness bench`.")
    eps, matrix = Fraction(text), question.run.matrix
    try:
        every = deciding(matrix.columns, engine.name, eps)
        chosen = [column for column in every if source in (None, column.record.source)]
        if not any(column.eps == eps for column in chosen):
            return absent(_no_set(question, source, text))
        twin, right = (_side(matrix, model, chosen, every, eps) for model in (TWIN, engine.name))
    except UntrustedError as error:
        return absent(str(error))
    left = int((twin.open | right.open).sum())
    note = f"{several(left, 'image')} not shown to {source}: broken by other sets before. --exhaustive shows all." if left else ""
    return twin, right, note


def _side(matrix: Matrix, model: str, chosen: list[Column], every: list[Column], eps: Fraction) -> Side:
    right = matrix.worst_case(model, chosen)
    shown = np.ones(len(matrix.labels), np.bool_)
    for column in chosen:
        if column.eps == eps:
            here = np.zeros_like(shown)
            here[column.index] = True
            shown &= here
    return Side(right, right & ~matrix.worst_case(model, every) & ~shown[matrix.index])


def _no_set(question: Question, source: str | None, eps: str) -> str:
    decisive = deciding(question.run.matrix.columns, question.its.name, Fraction(1))
    found = sorted({(column.record.source, column.eps) for column in decisive})
    radii = ", ".join(f"{name} at {radius}" for name, radius in found) or "none"
    return f"No set {f'of {source} ' if source else ''}at {eps} concerns this engine; there are: {radii}. Run with --eps {eps}."


def _share(fewest: int, most: int, n: int, what: str, doubt: str, note: str) -> Reading:
    """A share of n images, of which `most` - `fewest` are open."""

    def bounds(confidence: float) -> Bounds:
        return exact(fewest, n, confidence)[0], exact(most, n, confidence)[1]

    def more(limit: float, alpha: float) -> str:
        return _images(n_for_share(fewest / n, limit, alpha=alpha), what, most > fewest)

    return Reading(fewest / n, bounds, more, doubt=doubt, reason=note)


def _loss(twin: Side, engine: Side, what: str, doubt: str, note: str) -> Reading:
    """Twin less engine. What is open counts for neither in the figure, and against each in the bound on its side."""
    left = twin.open | engine.open
    figure = pair(twin.right & ~left, engine.right & ~left, 0.5)

    def bounds(confidence: float) -> Bounds:
        low = pair(twin.sure, engine.right, 0.5, confidence).lower
        return low, pair(twin.right, engine.sure, 0.5, confidence).upper

    def more(limit: float, alpha: float) -> str:
        needed = pair(twin.right & ~left, engine.right & ~left, limit).more_images(alpha)
        return _images(needed, what, bool(left.any()))

    return Reading(figure.gap, bounds, more, doubt=doubt, at_stake=figure.twin.ci95[0], reason=note)


def paired_loss(before: Right, after: Right, what: str, doubt: str) -> Reading:
    """The accuracy of one model less that of another, bool (n,) each, on the same images."""
    nothing = np.zeros(len(before), np.bool_)
    return _loss(Side(before, nothing), Side(after, nothing), what, doubt, "")


def _images(needed: int | None, what: str, open_: bool) -> str:
    if open_:
        return ""  # the figure's own note says what helps
    if needed is None:
        return "The figure is the limit itself: no number of images decides."
    return f"About {needed:,} {what} images would decide" + (f" (--samples {needed})." if what == "attacked" else " (more --data).")
