"""Gates on the clock, and on the device while it ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.audit.gates.table import decided, not_tested
from harness.limits import LIMITS, apart
from harness.records import Gate, Mismatch

NOT_TIMED = "nothing was timed"
THIRD = 3


def timed_outputs(engine: str, equal: bool | None, max_logit_error: float | None, *, own_clock: bool = False) -> Gate:
    """Whether the logits of the timed calls were those of the accuracy pass (MLPerf TEST01); `own_clock`: its timed calls give none."""
    if max_logit_error is None:
        return not_tested("timed outputs", "calls on a clock of its own give no answers" if own_clock else NOT_TIMED, engine)
    return decided("timed outputs", equal, f"logits at most {max_logit_error:.3g} apart", engine)


def repeated_inputs(engine: str, repeated_to_fresh: float | None) -> Gate:
    """Latency of one input again and again over that of inputs in turn (MLPerf TEST04)."""
    if repeated_to_fresh is None:
        return not_tested("repeated inputs", NOT_TIMED, engine)
    observed = f"a repeated input takes {apart(repeated_to_fresh, LIMITS.repeated_speed, 2)} of the time of fresh ones"
    return decided("repeated inputs", repeated_to_fresh >= LIMITS.repeated_speed, observed, engine)


def device_state(engine: str, wrong: Sequence[Mismatch], *, read: bool = True, declared: bool = True) -> Gate:
    """Whether the device is the one that its profile declares. `read`: its state was looked at; `declared`: there is one.

    `wrong` holds what makes the answers another device's; a power mode changes no answer, and is for `conditions`.
    """
    if not read:
        return not_tested("device state", "the device's state was not read", engine)
    return decided(
        "device state",
        not wrong,
        "; ".join(map(in_words, wrong)) or ("as declared" if declared else "nothing is declared") + ", and unchanged",
        engine,
    )


def own_clock(engine: str, share: float) -> Gate:
    """What an engine's own clock says of the time of a call, as a share of what passed here."""
    limit = LIMITS.own_clock if share < 1 else 1 / LIMITS.own_clock
    sound = LIMITS.own_clock <= share <= 1 / LIMITS.own_clock
    return decided("own clock", sound, f"it reports {apart(share, limit, 2)} of the time that a call takes here", engine)


def steady_latency(engine: str, rounds_ns: Mapping[int, Sequence[float]]) -> Gate:
    """The fastest call of each round in order, in nanoseconds, by batch size; the batch size that slowed down most."""
    long = {batch: fastest for batch, fastest in rounds_ns.items() if len(fastest) >= THIRD}
    if not long:
        return not_tested("steady latency", NOT_TIMED, engine)
    slower = {}
    for batch, fastest in long.items():
        part = len(fastest) // THIRD
        slower[batch] = float(np.median(fastest[-part:]) / np.median(fastest[:part]))
    worst = max(slower, key=lambda batch: slower[batch])
    limit = 1 + LIMITS.latency_drift
    took = apart(slower[worst], limit, 2)
    return decided("steady latency", slower[worst] <= limit, f"batch {worst}: the last rounds take {took} of the time of the first", engine)


def in_words(wrong: Mismatch) -> str:
    """A difference between profile and device as a sentence, with its remedy."""
    return f"{wrong.what}: declared {wrong.declared}, observed {wrong.observed}. {wrong.remedy}"


def conditions(engine: str, invalid: Mapping[str, Sequence[str]], unchecked: Mapping[str, Sequence[str]]) -> Gate:
    """Whether every timed batch size counts.

    Args:
        engine: a flavour.
        invalid: batch size -> why it does not count, for those whose conditions were watched.
        unchecked: batch size -> what no sensor tells of.
    """
    if not invalid:
        return not_tested("conditions", "nothing was sampled beside the timing", engine)
    reasons = [f"batch {batch}: {reason}" for batch, found in invalid.items() for reason in found]
    sound = f"nothing against {len(invalid)} batch size{'s' if len(invalid) > 1 else ''}"
    unseen = list(dict.fromkeys(name for names in unchecked.values() for name in names))
    seen = [*(reasons or [sound]), *([f"not checked: {', '.join(unseen)}"] if unseen else [])]
    return decided("conditions", not reasons, "; ".join(seen), engine)
