"""Gates that ask whether what was deployed is what was made, whether calibration was like the test, and whether the attack led anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom, ks_2samp

from devices.host.saturation import saturates
from devices.host.transports import LOCAL
from devices.worker.environment import describe_machine
from export.session import runs_exact
from export.simulate import simulated_logits
from harness.answers import TWIN, Column, Images, Index, Logits, Matrix
from harness.attacks.table import resolve
from harness.audit import gates
from harness.audit.metrics import Labels
from harness.data.split import few
from harness.limits import LIMITS
from harness.measurement.simulation import NOT_RUN
from harness.models.engine_file import SCALED_BY_BATCH
from harness.models.predictions import logits, margins
from harness.records import Gate
from harness.settings import Settings
from harness.sources import decides, deciding
from harness.stages import course
from harness.stages.measured import Measured
from harness.stages.subject import Subject

if TYPE_CHECKING:
    from harness.stages.judge import Evidence

IMAGES = 64  # whose answers by the file are worked out again
COMPARED = 256  # test images that the calibration images are held against


def of_engine(evidence: Evidence, m: Measured) -> Iterator[Gate]:
    """Of an engine that answered to everything."""
    name, matrix = m.engine.name, evidence.matrix
    twin, found = matrix.logits(TWIN), matrix.logits(name)
    columns = deciding(matrix.columns, name, evidence.subject.eps)
    if m.engine.closed:
        attacked, own = _named_under_attack(evidence, TWIN), _named_under_attack(evidence, name)
        yield gates.engine_parity(name, twin.argmax(1), found.argmax(1), attacked, own, _kept(matrix, columns, name))
    elif m.engine.simulated:
        yield gates.not_tested("file fidelity", NOT_RUN, name)
    else:
        yield _file_fidelity(evidence.subject, m, found)
    if name in evidence.again:
        again = evidence.again[name]
        yield gates.lost_anew(name, again.error) if again.error else gates.fresh_answers(name, again.before, again.now)
    if columns:
        yield gates.engine_gain(name, matrix.worst_case(TWIN, columns), matrix.worst_case(name, columns))
    yield from _rebuild(evidence, m)
    yield from _timing(m)


def _file_fidelity(subject: Subject, m: Measured, found: NDArray[np.float32]) -> Gate:
    assert m.engine.exported is not None  # noqa: S101 - asked by the caller
    artefact, seen = m.engine.exported.artefact, m.facts.environment
    if m.engine.scaled_by_batch:
        return gates.not_tested("file fidelity", SCALED_BY_BATCH, m.engine.name)
    own = artefact.runtime == "onnxruntime"
    saturating = own and artefact.precision == "int8" and not runs_exact(artefact.session_config) and saturates(seen.get("isa_flags") or ())
    if saturating and not saturates(describe_machine()["isa_flags"]):
        return gates.not_tested("file fidelity", "its CPU's kernels can saturate, and those here do not: see 'saturation'", m.engine.name)
    chosen, here = few(subject.test.labels, IMAGES), subject.profile.transport == LOCAL
    images, found = subject.test.images[chosen], found[chosen]
    file = simulated_logits(artefact, images, exact=not saturating)
    if not own or (saturating and not here):  # kernels of another CPU that saturates may add in another order, and so saturate elsewhere
        return gates.file_fidelity(m.engine.name, file, found)
    other_way = file if here else simulated_logits(artefact, images, optimise=False)
    return gates.file_fidelity(m.engine.name, file, found, other_way)


def _named_under_attack(evidence: Evidence, model: str) -> NDArray[np.int64]:
    """What a model names the images that were attacked on the twin, int64 (n,): each of the first set that holds it, since the later ones
    hold those on which twin and engine part.
    """
    matrix = evidence.matrix
    new, named = np.ones(len(matrix.labels), np.bool_), [np.zeros(0, np.int64)]
    for column in matrix.columns:
        if column.record.source == "S1" and decides(column) and column.eps == evidence.subject.eps:
            named.append(matrix.logits(model, column).argmax(1)[new[column.index]])
            new[column.index] = False
    return np.concatenate(named)


def _kept(matrix: Matrix, columns: Sequence[Column], engine: str) -> NDArray[np.bool_] | None:
    """Where an engine stays right of the images that the claim's attacks take from the twin, of those that both have right when clean; None
    where it was not attacked itself: then they tell how the twin's sets transfer.
    """
    if not any(column.record.target == engine for column in columns):
        return None
    both = (matrix.right(TWIN) & matrix.right(engine))[matrix.index]
    kept: NDArray[np.bool_] = matrix.worst_case(engine, columns)[both & ~matrix.worst_case(TWIN, columns)]
    return kept


def _rebuild(evidence: Evidence, m: Measured) -> Iterator[Gate]:
    """Of a later build of a flavour: its answers against the first one's."""
    engine, matrix = m.engine, evidence.matrix
    first = engine.id.flavour
    if engine.id.build == 0 or not evidence.answers(first):
        return
    sets = [None, *matrix.columns]
    one, other = (np.concatenate([matrix.logits(name, column).argmax(1) for column in sets]) for name in (first, engine.name))
    yield gates.rebuild_spread(engine.name, one, other)


def _timing(m: Measured) -> Iterator[Gate]:
    name, checks = m.engine.name, m.facts.checks
    if checks is not None and checks.own_clock is not None:
        yield gates.own_clock(name, checks.own_clock)
    if m.timings and not m.facts.synthetic:
        fastest = {
            batch: [float(timing.latency_ns[timing.round == number].min()) for number in np.unique(timing.round)]
            for batch, timing in m.timings.items()
        }
        yield gates.steady_latency(name, fastest)


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


def of_attack(subject: Subject, *, settings: Settings, right: NDArray[np.bool_]) -> Iterator[Gate]:
    """Of one of the run's attacks, made again on a few of the images that the twin has right."""
    attack = course.chosen(subject.attacks)
    if attack is None:
        return
    index = subject.index[right[subject.index]][: course.IMAGES]
    if not len(index):
        return
    seen = course.course(subject.twin.module, subject.test.subset(index), attack, float(subject.eps), settings.seed)
    yield gates.rising_loss(attack.name, attack.steps, seen.margins)
    yield gates.zero_gradient_along(attack.name, seen.zero)
    yield gates.increasing_loss(attack.name, seen.each)
    yield gates.silent_success(attack.name, seen.lost)


def of_large_radius(subject: Subject, matrix: Matrix, column: Column) -> Gate:
    """Of the set at a radius where next to nothing should survive; where something does, with what would make it a robust network's."""
    module, attack, seed = subject.twin.module, resolve(column.record.name), column.record.seed
    where = column.index[matrix.right(TWIN)[column.index]]
    right = matrix.right(TWIN, column)[np.isin(column.index, where)]
    kept = where[right]
    if not len(kept):
        return gates.large_radius(right)
    clean, attacked = (margins(answers, subject.test.labels[kept]) for answers in _answers(matrix, column, kept))
    noise = course.draws(module, subject.test, kept, resolve("noise"), column.eps, seed).min(axis=0)
    led = clean - attacked > LIMITS.beyond_noise * np.maximum(clean - noise, 0)
    seen = course.course(module, subject.test.subset(kept[: course.IMAGES]), attack, 1.0, seed)
    return gates.large_radius(right, led, seen.margins[-1] < 0)


def _answers(matrix: Matrix, column: Column, where: Index) -> tuple[Logits, Logits]:
    """The twin's to the clean images at `where`, int64 (m,), and to the set's versions of them, both float32 (m, classes)."""
    return matrix.logits(TWIN)[where], matrix.logits(TWIN, column)[np.isin(column.index, where)]
