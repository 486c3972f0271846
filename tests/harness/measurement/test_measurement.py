from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from devices.host.rounds import Timing
from harness.measurement.facts import Checks, Facts
from harness.measurement.latency import MINIMUM_CALLS, outliers, summarise, variation, warnings

MS = 1_000_000
calls = arrays(np.int64, st.integers(1, 300), elements=st.integers(1, 10**12))


def timing(latency_ns: np.ndarray, first_ns: int | None = None, stable: bool = True) -> Timing:
    first = int(np.median(latency_ns)) if first_ns is None else first_ns
    return Timing(np.asarray(latency_ns, np.int64), np.zeros(len(latency_ns), np.int16), np.array([first], np.int64), stable)


def fewest_calls(share: float) -> int:
    """Smallest n at which, were the true percentile worse, at most one of n calls would lie over it with probability 1 % or less."""
    n = 2
    while stats.binom.cdf(1, n, 1 - share) > 0.01:
        n += 1
    return n


@pytest.mark.parametrize("name", MINIMUM_CALLS)
def test_minimum_counts_follow_from_the_binomial_tail(name: str) -> None:
    share, least = MINIMUM_CALLS[name]
    assert fewest_calls(share) == least


@pytest.mark.parametrize("name", MINIMUM_CALLS)
def test_a_percentile_is_withheld_one_call_short(name: str) -> None:
    share, least = MINIMUM_CALLS[name]
    values = np.arange(1, least + 1) * MS
    assert getattr(summarise(timing(values[:-1]), 1, ""), name) is None
    assert getattr(summarise(timing(values), 1, ""), name) == pytest.approx(np.ceil(share * least))


@settings(deadline=None)
@given(calls, st.integers(1, 64))
def test_figures_are_those_of_the_raw_values(values: np.ndarray, batch: int) -> None:
    latency = summarise(timing(values, first_ns=3 * MS), batch, "timings/x.npz")
    assert (latency.n, latency.unit, latency.first, latency.warmup_n, latency.raw) == (len(values), "ms", 3.0, 1, "timings/x.npz")
    assert latency.minimum <= latency.p50 <= latency.maximum
    assert latency.minimum * 0.999999 <= latency.mean <= latency.maximum * 1.000001
    assert latency.throughput_per_s == pytest.approx(batch / (values.mean() / 1e9))
    seen = [p for p in (latency.p50, latency.p90, latency.p95, latency.p99, latency.maximum) if p is not None]
    assert seen == sorted(seen)
    assert {round(p * MS) for p in seen[1:]} <= set(values.tolist()), "observed, not interpolated"


@settings(deadline=None)
@given(calls, st.integers(1, 1000))
def test_variation_does_not_depend_on_the_unit(values: np.ndarray, scale: int) -> None:
    assert variation(values * scale) == pytest.approx(variation(values))


def test_variation_of_a_known_sample() -> None:
    assert variation(np.array([90, 110, 90, 110])) == pytest.approx(np.sqrt(400 / 3) / 100)
    assert variation(np.array([5])) == 0


def test_outliers_are_counted_on_the_slow_side_only() -> None:
    values = np.array([100 * MS + step for step in range(-50, 51)])
    assert outliers(values) == 0
    assert outliers(np.concatenate([values, [1, 200 * MS, 300 * MS]])) == 2
    assert outliers(np.full(10, 5)) == 0


STEADY = np.array([100 * MS + step for step in range(-50, 50)])
GOOD = Checks(
    timed_max_logit_error=0.0, timed_outputs_equal_accuracy_outputs=True, repeated_to_fresh_latency=1.0, repeats=3, graph_equal=True
)


def against(timings: dict[int, Timing] | None = None, others: float | None = None, **changes: object) -> list[str]:
    facts = Facts(status="ok", checks=GOOD, environment={"cpus": 2}).model_copy(update=changes)
    return warnings(facts, {8: timing(STEADY)} if timings is None else timings, others)


def test_a_quiet_measurement_has_nothing_against_it() -> None:
    assert against() == []
    quiet = {"others_share_before": 0.04, "steal_share": 0.001, "governor": "performance"}
    assert against(environment=quiet, others=0.09) == []
    assert against(environment=dict.fromkeys(quiet)) == []


NOISY = [
    ({"timings": {8: timing(STEADY, stable=False)}}, "Batch 8: the warm-up reached its cap", "longer warm-up"),
    ({"timings": {8: timing(np.array([95, 105] * 50) * MS)}}, "Batch 8: latency varies by 5.0% (limit 2.5%)", "Stop other programs"),
    ({"timings": {8: timing(np.concatenate([STEADY, [101 * MS] * 2]))}}, "Batch 8: 2 of 102 calls are slow outliers", "stop it"),
    ({"timings": {1: timing(STEADY)}, "first_ns": 450 * MS}, "The first call took 4.5x the median", "Make one call before"),
    ({"environment": {"others_share_before": 0.45}}, "took 45% of the CPU time right before", "Stop them"),
    ({"others": 0.12}, "took 12% of the CPU time during", "Stop them"),
    ({"environment": {"steal_share": 0.05}}, "took 5.0% of the CPU time", "bare metal"),
    ({"environment": {"governor": "powersave"}}, "governor is 'powersave'", "cpupower"),
    ({"checks": GOOD.model_copy(update={"repeated_to_fresh_latency": 0.5})}, "0.50x the time of a fresh one", "cache off"),
    (
        {"checks": GOOD.model_copy(update={"timed_outputs_equal_accuracy_outputs": False, "timed_max_logit_error": 0.8})},
        "by up to 0.8",
        "batch size",
    ),
    ({"checks": GOOD.model_copy(update={"deterministic": False})}, "3 passes over the same images differ", "one thread"),
    ({"checks": GOOD.model_copy(update={"graph_equal": False})}, "saved graph gives other logits", "Do not trust"),
]


@pytest.mark.parametrize(("change", "fault", "remedy"), NOISY, ids=[fault for _, fault, _ in NOISY])
def test_each_fault_is_told_once_with_its_remedy(change: dict[str, object], fault: str, remedy: str) -> None:
    (warning,) = against(**change)  # type: ignore[arg-type]
    assert fault in warning
    assert remedy in warning


def test_a_load_average_that_the_harness_itself_left_behind_is_no_fault() -> None:
    busy = {"cpus": 2, "load_average_before": 9.0, "load_average_after": 9.0, "others_share_before": 0.0}
    assert against(environment=busy, others=0.0) == []


def test_another_engine_of_the_run_is_no_other_program() -> None:
    """Each worker sees the turns of the others: of two engines on a quiet machine, each was said to run beside other programs."""
    assert against(environment={"others_share_meanwhile": 0.45}, others=0.01) == [], "of a run of an earlier version"


def test_a_made_up_measurement_says_only_that() -> None:
    (warning,) = against({8: timing(STEADY, stable=False)}, synthetic=True, environment={"governor": "powersave"})
    assert "made up" in warning


def test_a_result_without_checks_or_timings_has_nothing_to_say() -> None:
    assert warnings(Facts(status="crashed", error="it broke"), {}) == []
