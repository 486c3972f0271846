"""The noise floor: what the twin keeps under random noise of the primary radius, draw by draw."""

from __future__ import annotations

from harness.answers import TWIN, Logits
from harness.attacks.table import resolve
from harness.audit.statistics import mean_bounds
from harness.records import NoiseFloor
from harness.stages import course
from harness.stages.evidence import Evidence


def margins_under_noise(evidence: Evidence) -> Logits | None:
    """The twin's margins under every draw of noise, float32 (draws, n), of all attacked images; None where the run has no noise."""
    noise = [column for column in evidence.matrix.columns if column.record.source == "S0"]
    if not noise:
        return None
    subject, record = evidence.subject, noise[0].record
    attack = resolve(record.name)
    return course.draws(subject.twin.module, subject.test, subject.index, attack, noise[0].eps, record.seed)


def noise_floor(evidence: Evidence, drawn: Logits) -> NoiseFloor:
    """The floor, draw by draw."""
    right = (drawn > 0) & evidence.matrix.right(TWIN)[evidence.subject.index]
    n, shares = right.shape[1], right.mean(axis=1)
    low, high = mean_bounds(shares, 0.975)
    mean = float(shares.mean())
    return NoiseFloor(
        n=n,
        eps_exact=str(evidence.subject.eps),
        right=right.sum(axis=1).tolist(),
        minimum=float(shares.min()),
        mean=mean,
        maximum=float(shares.max()),
        ci95=(max(0.0, mean if low is None else low), min(1.0, mean if high is None else high)),
        worst=float(right.all(axis=0).mean()),
    )
