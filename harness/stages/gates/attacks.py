"""Gates of the attacks: whether they led anywhere, and whether queries or noise find what they do not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.answers import TWIN, Column, Index, Logits, Matrix
from harness.attacks.access import Access
from harness.attacks.table import family, resolve
from harness.audit import gates
from harness.limits import LIMITS
from harness.models.predictions import margins
from harness.records import AttackRecord, Gate
from harness.settings import Settings
from harness.stages import course
from harness.stages.evidence import Evidence
from harness.stages.subject import Subject


def of_attacks(evidence: Evidence, drawn: Logits | None) -> Iterator[Gate]:
    """Of the attacks and the sets that they made; `drawn` as of `harness.stages.noise`."""
    subject, matrix = evidence.subject, evidence.matrix
    yield from _of_one_again(subject, settings=evidence.settings, right=matrix.right(TWIN))
    for column in matrix.columns:
        if column.record.source == "gate":
            yield _of_large_radius(subject, matrix, column)
    primary = evidence.primary
    gradients = [column.record for column in primary if column.record.source != "S4"]
    yield gates.zero_gradient(zero_gradients(r for r in gradients if r.target == TWIN))
    made = [column.record for column in matrix.columns if column.record.source not in ("S0", "gate")]
    yield gates.rounding([(_called(r), r.undone_by_rounding, r.n_attacked) for r in made])
    white_box = [column for column in primary if column.record.source == "S1"]
    if drawn is not None and white_box:
        yield _noise_floor(evidence, white_box, drawn)
    yield gates.dlr_classes(subject.twin.classes, [r.name for r in gradients if _with_dlr(r.name)])
    queries = [column for column in primary if column.record.target == TWIN and _from_scratch(column.record)]
    if queries and white_box:
        yield gates.query_attack(matrix.worst_case(TWIN, white_box), matrix.worst_case(TWIN, [*white_box, *queries]))


def zero_gradients(records: Iterable[AttackRecord]) -> list[gates.Counted]:
    """Of each set made along gradients: the images whose gradient was zero at the start."""
    return [(_called(record), record.zero_gradients, record.n_attacked) for record in records]


def _with_dlr(name: str) -> bool:
    """Whether an attack follows the difference-of-logits ratio, or what takes its place with few classes."""
    return "dlr" in name or name.startswith("apgd-t")


def _of_one_again(subject: Subject, *, settings: Settings, right: NDArray[np.bool_]) -> Iterator[Gate]:
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


def _of_large_radius(subject: Subject, matrix: Matrix, column: Column) -> Gate:
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


def _noise_floor(evidence: Evidence, white_box: Sequence[Column], drawn: Logits) -> Gate:
    """The twin's margins under each draw, and its smallest under the attacks of the same eps, on the images it has right when clean."""
    matrix, index = evidence.matrix, evidence.subject.index
    attacked = _smallest(matrix, white_box)[index]
    seen = matrix.right(TWIN)[index] & np.isfinite(attacked)
    names = dict.fromkeys(family(column.record.name) for column in white_box)
    return gates.noise_floor(drawn[:, seen], attacked[seen], " and ".join(names))


def _smallest(matrix: Matrix, columns: Sequence[Column]) -> Logits:
    """The twin's smallest margin on each of all images over some sets; infinite where none holds it."""
    found = np.full(len(matrix.labels), np.inf, np.float32)
    for column in columns:
        found[column.index] = np.minimum(found[column.index], margins(matrix.logits(TWIN, column), matrix.labels[column.index]))
    return found


def _from_scratch(record: AttackRecord) -> bool:
    """Whether a set was made by queries alone: neither along a gradient nor from where gradients had led."""
    attack = resolve(family(record.name))
    return attack.access is not Access.GRADIENT and not attack.continues


def _called(record: AttackRecord) -> str:
    """A set in words, in a gate."""
    on = "" if record.target == TWIN else f" on {record.target}"
    return f"{record.source} {record.name}{on}" + (f" at {record.eps_exact}" if record.eps else "")
