"""Gates of the data: whether the twin reads them, whether images stand twice, whether calibration was like the test."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom, ks_2samp

from harness.answers import TWIN, Images, Logits
from harness.audit import causes, gates
from harness.audit.metrics import Labels
from harness.data.split import few
from harness.models.predictions import logits
from harness.records import Gate, Share
from harness.stages import readings
from harness.stages.evidence import Evidence
from harness.stages.subject import Subject

COMPARED = 256  # test images that the calibration images are held against


def of_data(evidence: Evidence) -> Iterator[Gate]:
    """Of the test and calibration images, by the twin's answers to them."""
    subject, clean = evidence.subject, evidence.matrix.logits(TWIN)
    test, calibration = subject.test, subject.calibration
    yield clean_accuracy(subject, clean)
    yield gates.logits_not_probabilities(clean)
    yield gates.calibration_disjoint(calibration.images, test.images, set_aside=calibration.set_aside)
    yield gates.distinct_images(test.images, test.labels)
    yield of_calibration(subject, clean.argmax(1))


def clean_accuracy(subject: Subject, clean: Logits) -> Gate:
    """The gate of the twin's clean accuracy, with the reading of labels or pixels that would explain the figure. Pixels that are read as
    more contrast explain none that is better than chance of images that want contrast: these may be what the network is to be tried on.
    """
    test, classes, predictions = subject.test, subject.twin.classes, clean.argmax(1)
    measured = subject.twin.card.get("measured", {})
    card = Share(**measured["clean"]) if measured.get("data") == test.name else None
    gate = gates.clean_accuracy(test.labels, predictions, classes, card)
    order = few(test.labels, len(test))
    images, labels, predictions = test.images[order[: readings.IMAGES]], test.labels[order], predictions[order]
    stretched = gate.passed is False or readings.full_contrast(images)
    pixels = readings.of_pixels(subject.twin.module, images, labels, predictions, stretched=stretched)
    cause = causes.explain(labels, predictions, pixels, classes)
    return gates.clean_accuracy(labels, predictions, classes, card, cause)


def of_calibration(subject: Subject, seen: Labels) -> Gate:
    """The calibration images against the test images, by what the twin names them, `seen` those, int (n,), and by what they look like."""
    calibration = subject.calibration.images[np.random.default_rng(0).permutation(len(subject.calibration))[:COMPARED]]
    named = logits(subject.twin.module, calibration).argmax(1)
    ours, theirs = _statistics(subject.test.images[few(subject.test.labels, COMPARED)]), _statistics(calibration)
    distances = {name: float(ks_2samp(ours[name], theirs[name]).statistic) for name in ours}
    return gates.calibration_images(float(np.isin(seen, named).mean()), distances, len(calibration), _covered_by_others(seen, len(named)))


def _covered_by_others(seen: Labels, n: int) -> float:
    """The share of images whose class, int (m,), is that of one of `n` others, drawn from the same: of a thousand classes few."""
    others = len(seen) - 1
    if not others:
        return 0.0
    alike = np.bincount(seen)[seen] - 1
    return float(1 - np.mean(hypergeom.pmf(0, others, alike, min(n, others))))


def _statistics(images: Images) -> dict[str, NDArray[np.float64]]:
    """Of each image, uint8 (n, h, w, c): its mean, its spread, and how far neighbouring pixels are apart (one pixel has no neighbour)."""
    levels = images.astype(np.float64)
    axes, ways = (1, 2, 3), [way for way in (1, 2) if images.shape[way] > 1]
    rough = sum((np.abs(np.diff(levels, axis=way)).mean(axes) for way in ways), start=np.zeros(len(levels)))
    return {"brightness": levels.mean(axes), "contrast": levels.std(axes), "roughness": rough}
