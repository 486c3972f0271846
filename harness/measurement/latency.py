"""From the raw timings of one engine to the figures of the record, and to what those figures say against themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.host.rounds import Timing
from harness.limits import LIMITS, apart
from harness.measurement.facts import Checks, Facts
from harness.records import Latency, Spread

# Fewest calls from which a percentile may be reported: at 99 % confidence the true percentile is no worse, with one call allowed over it.
# Source: MLPerf LoadGen's early stopping (mlcommons/inference, loadgen/early_stopping.cc), t = 1, c = 0.99, d = 0.
MINIMUM_CALLS = {"p90": (0.90, 64), "p95": (0.95, 130), "p99": (0.99, 662), "p999": (0.999, 6636)}

SLOW_FIRST = 3.0
OUTLIER_SHARE = 0.01
OUTLIER_DEVIATIONS = 10.0

_MAD_TO_SIGMA = 1.4826


def summarise(timing: Timing, batch: int, raw_file: str) -> Latency:
    """The figures of one batch size, in milliseconds.

    Args:
        timing: every call, in nanoseconds.
        batch: images per call.
        raw_file: where the raw values are kept, relative to the run folder.

    Percentiles above the median are observed values (nearest rank), and None below their minimum count.
    """
    latency_ms = timing.latency_ns / 1e6
    mean = float(latency_ms.mean())
    percentiles = {name: percentile(latency_ms, name) for name in MINIMUM_CALLS}
    return Latency(
        n=len(latency_ms),
        mean=mean,
        minimum=float(latency_ms.min()),
        maximum=float(latency_ms.max()),
        p50=float(np.median(latency_ms)),
        p90=percentiles["p90"],
        p95=percentiles["p95"],
        p99=percentiles["p99"],
        p999=percentiles["p999"],
        variation=variation(timing.latency_ns),
        first=float(timing.warmup_ns[0]) / 1e6 if len(timing.warmup_ns) else float(latency_ms[0]),
        warmup_n=len(timing.warmup_ns),
        stable=timing.stable,
        throughput_per_s=batch / mean * 1e3,
        raw=raw_file,
        parts={name: spread(values) for name, values in timing.parts_ns.items()},
    )


def percentile(values: NDArray[np.floating], name: str) -> float | None:
    """A percentile of `MINIMUM_CALLS` as an observed value (nearest rank), None below its minimum count."""
    rank, least = MINIMUM_CALLS[name]
    return float(np.quantile(values, rank, method="inverted_cdf")) if len(values) >= least else None


def spread(part_ns: NDArray[np.int64]) -> Spread:
    """The figures of one part of the calls, in milliseconds."""
    part_ms = part_ns / 1e6
    return Spread(mean=float(part_ms.mean()), p50=float(np.median(part_ms)), p90=percentile(part_ms, "p90"), p99=percentile(part_ms, "p99"))


def windows_ns(timing: Timing) -> list[tuple[int, int]]:
    """When each round's first measured call began and its last one ended, on the device's clock; empty where that is not known."""
    if not len(timing.start_ns):
        return []
    found = []
    for number in np.unique(timing.round):
        calls = np.flatnonzero(timing.round == number)
        found.append((int(timing.start_ns[calls[0]]), int(timing.start_ns[calls[-1]] + timing.latency_ns[calls[-1]])))
    return found


def variation(latency_ns: NDArray[np.int64]) -> float:
    """Coefficient of variation: sample standard deviation / mean; 0 for a single call."""
    return float(latency_ns.std(ddof=1) / latency_ns.mean()) if len(latency_ns) > 1 else 0.0


def outliers(latency_ns: NDArray[np.int64]) -> int:
    """Calls slower than the median by more than ten robust standard deviations (1.4826 times the median absolute deviation).

    Source: hyperfine's rule (Iglewicz and Hoaglin's modified Z-score), on the slow side only.
    """
    median = np.median(latency_ns)
    sigma = _MAD_TO_SIGMA * float(np.median(np.abs(latency_ns - median)))
    return int((latency_ns > median + OUTLIER_DEVIATIONS * sigma).sum()) if sigma > 0 else 0


def warnings(facts: Facts, timings: Mapping[int, Timing], others: float | None = None) -> list[str]:
    """What one engine's measurement says against itself, one sentence with its remedy each.

    Args:
        facts: of the engine.
        timings: batch size -> calls.
        others: share of the CPU time that other programs took meanwhile, this run's other engines not among them; None: not known.
    """
    if facts.synthetic:
        return ["The clock and the memory are made up: latency, load time and memory say nothing. Choose a real device to measure."]
    found = [f"Batch {batch}: {warning}" for batch, timing in sorted(timings.items()) for warning in _of_timing(timing)]
    if facts.first_ns is not None and 1 in timings and facts.first_ns > SLOW_FIRST * float(np.median(timings[1].latency_ns)):
        ratio = facts.first_ns / float(np.median(timings[1].latency_ns))
        found.append(f"The first call took {ratio:.1f}x the median. Make one call before the first image that matters.")
    machine = _of_machine(facts.environment, others) if timings else []
    return found + machine + (_of_checks(facts.checks) if facts.checks else [])


def _of_timing(timing: Timing) -> list[str]:
    found = []
    n = len(timing.latency_ns)
    spread, slow = variation(timing.latency_ns), outliers(timing.latency_ns)
    if not timing.stable:
        found.append("the warm-up reached its cap before three windows agreed within 10 %. Allow a longer warm-up, or fix the clocks.")
    if spread > LIMITS.latency_variation:
        by = apart(spread, LIMITS.latency_variation, 1, "%")
        found.append(f"latency varies by {by} (limit {LIMITS.latency_variation:.1%}). Stop other programs, or measure for longer.")
    if slow > OUTLIER_SHARE * n:
        found.append(f"{slow} of {n} calls are slow outliers. Something else ran at times: stop it and measure again.")
    return found


def _of_machine(seen: dict[str, Any], meanwhile: float | None) -> list[str]:
    found = []
    for others, when in ((seen.get("others_share_before"), "right before"), (meanwhile, "during")):
        if others is not None and others > LIMITS.other_programs:
            took = apart(others, LIMITS.other_programs, 0, "%")
            found.append(
                f"Other programs took {took} of the CPU time {when} the measurement (limit {LIMITS.other_programs:.0%}). Stop them."
            )
    steal, governor = seen.get("steal_share"), seen.get("governor")
    if steal is not None and steal > LIMITS.steal:
        took = apart(steal, LIMITS.steal, 1, "%")
        found.append(f"The hypervisor took {took} of the CPU time meanwhile. Measure on bare metal or on a dedicated virtual machine.")
    if governor not in (None, "performance"):
        found.append(f"The frequency governor is '{governor}', so the clock follows the load. Run: cpupower frequency-set -g performance.")
    return found


def _of_checks(checks: Checks) -> list[str]:
    found = []
    ratio, error = checks.repeated_to_fresh_latency, checks.timed_max_logit_error
    if ratio is not None and ratio < LIMITS.repeated_speed:
        took = apart(ratio, LIMITS.repeated_speed, 2)
        found.append(f"A repeated input takes {took}x the time of a fresh one: answers are cached. Turn the cache off.")
    if checks.timed_outputs_equal_accuracy_outputs is False:
        found.append(
            f"Timed calls give other logits than the untimed pass (by up to {error:.3g}). Deploy with the batch size that was audited."
        )
    if not checks.deterministic:
        found.append(f"{checks.repeats} passes over the same images differ. Ask the runtime for deterministic kernels, or use one thread.")
    if checks.graph_equal is False:
        found.append("The saved graph gives other logits than the measured session. Do not trust its precision evidence.")
    return found
