"""Two engines that were timed in turns: their ratio round by round, which survives a noisy machine where medians taken apart do not."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from devices.host.rounds import Timing
from harness.records import Ratio

LOW = 0.1  # quantile of a round's calls: what the engine needs when nothing disturbs it
FEWEST_ROUNDS = 3


def ratios(timings: Mapping[str, Mapping[int, Timing]]) -> list[Ratio]:
    """Every pair of engines at every batch size that both were timed at, the engine named first above.

    Args:
        timings: engine -> batch size -> calls, from `devices.host.rounds.time_in_rounds`.
    """
    found = []
    for above, below in combinations(timings, 2):
        for batch in sorted(timings[above].keys() & timings[below].keys()):
            ratio = compare(timings[above][batch], timings[below][batch])
            if ratio is not None:
                found.append(Ratio.model_validate({"above": above, "below": below, "batch": batch, **ratio}))
    return found


def compare(above: Timing, below: Timing) -> dict[str, float | int | bool] | None:
    """Latency of `above` / latency of `below`; None below three rounds that both have.

    The figure is the median over rounds of the ratio of the rounds' low quantiles: other work on the machine only ever adds time, and in
    one round both engines saw the same machine. `decided`: every round names the same engine as the faster one.
    """
    rounds = np.intersect1d(above.round, below.round)
    if len(rounds) < FEWEST_ROUNDS:
        return None
    low = np.array([_low(above, number) / _low(below, number) for number in rounds])
    median = np.array([_median(above, number) / _median(below, number) for number in rounds])
    return {
        "low": float(np.median(low)),
        "low_smallest": float(low.min()),
        "low_largest": float(low.max()),
        "median": float(np.median(median)),
        "median_smallest": float(median.min()),
        "median_largest": float(median.max()),
        "rounds": len(rounds),
        "decided": bool((low > 1).all() or (low < 1).all()),
    }


def _low(timing: Timing, number: int) -> float:
    return float(np.quantile(timing.latency_ns[timing.round == number], LOW))


def _median(timing: Timing, number: int) -> float:
    return float(np.median(timing.latency_ns[timing.round == number]))
