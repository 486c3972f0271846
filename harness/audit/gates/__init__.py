"""Gates: the conditions under which the figures may be believed. One function each; `GATES` holds every limit and remedy.

A gate that cannot decide (too few images, nothing to look at) is `passed=None` and says why, as does one that a tier does not run.
"""

from harness.audit.gates.attacks import (
    Counted,
    dlr_classes,
    increasing_loss,
    large_radius,
    noise_floor,
    query_attack,
    rising_loss,
    rounding,
    silent_success,
    undone_remark,
    zero_gradient,
    zero_gradient_along,
)
from harness.audit.gates.data import (
    calibration_disjoint,
    calibration_images,
    clean_accuracy,
    distinct_images,
)
from harness.audit.gates.engines import (
    artefact_parity,
    blame_saturation,
    clean_parity,
    determinism,
    engine_gain,
    engine_parity,
    file_fidelity,
    fresh_answers,
    logits_not_probabilities,
    lost_anew,
    precision_evidence,
    rebuild_spread,
    saturation,
    twin_fidelity,
)
from harness.audit.gates.table import (
    GATES,
    GIVEN_OTHERWISE,
    LAST,
    Kind,
    guards,
    not_tested,
    refutable,
    untested,
)
from harness.audit.gates.timing import (
    conditions,
    device_state,
    in_words,
    own_clock,
    repeated_inputs,
    steady_latency,
    timed_outputs,
)

__all__ = [
    "GATES", "GIVEN_OTHERWISE", "LAST", "Counted", "Kind", "artefact_parity", "blame_saturation", "calibration_disjoint",
    "calibration_images", "clean_accuracy", "clean_parity", "conditions", "determinism", "device_state", "distinct_images",
    "dlr_classes", "engine_gain", "engine_parity", "file_fidelity", "fresh_answers", "guards", "in_words", "increasing_loss",
    "large_radius", "logits_not_probabilities", "lost_anew", "noise_floor", "not_tested", "own_clock", "precision_evidence",
    "query_attack", "rebuild_spread", "refutable", "repeated_inputs", "rising_loss", "rounding", "saturation", "silent_success",
    "steady_latency", "timed_outputs", "twin_fidelity", "undone_remark", "untested", "zero_gradient", "zero_gradient_along",
]  # fmt: skip
