"""Wilson, exact bounds, quantiles, means, McNemar, Holm and the paired bootstrap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, ttest_1samp

from harness.audit.statistics import (
    bootstrap_ratio,
    bootstrap_share,
    calls_needed,
    exact,
    highest_rank_correlation,
    holm,
    mcnemar_p,
    mean_bounds,
    median,
    n_for_share,
    n_required,
    order_correlation,
    quantile_bounds,
    share,
    wilson,
)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_scipy(count: tuple[int, int]) -> None:
    correct, n = count
    theirs = binomtest(correct, n).proportion_ci(0.95, method="wilson")
    assert wilson(correct, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_wilson_at_the_edges() -> None:
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == 1


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(correct: int, n: int) -> None:
    with pytest.raises(ValueError, match="0 <= correct <= n"):
        share(correct, n)


def test_share_holds_count_accuracy_and_interval() -> None:
    found = share(97, 256)
    assert (found.correct, found.n, found.accuracy, found.ci95) == (97, 256, 97 / 256, wilson(97, 256))


def test_median_by_hand() -> None:
    """Of nine figures the second and the eighth bound it: P(2 <= Bin(9, 1/2) <= 7) = 1 - 2 * 10 / 512 = 96.1 %."""
    found = median(np.array([9.0, 1, 8, 2, 7, 3, 6, 4, 5]))
    assert (found.value, found.n, found.missing, found.low, found.high) == (5.0, 9, 0, 2.0, 8.0)


def test_the_median_of_few_figures_has_no_interval() -> None:
    found = median(np.array([1.0, 2, 3, 4, 5]))
    assert (found.value, found.low, found.high) == (3.0, None, None)


def test_figures_that_were_not_found_count_as_larger_than_all() -> None:
    found = median(np.array([1.0, 2, 3, 4, 5, np.inf, np.inf, np.inf, np.inf]))
    assert (found.value, found.missing, found.low, found.high) == (5.0, 4, 2.0, None)
    assert median(np.array([1.0, np.inf, np.inf])).value is None


def test_the_interval_of_a_median_covers_it() -> None:
    rng = np.random.default_rng(0)
    found = [median(rng.exponential(size=60)) for _ in range(400)]
    covered = np.mean([one.low <= np.log(2) <= one.high for one in found])
    assert 0.93 < covered < 1


def test_mcnemar_by_hand() -> None:
    """1 and 5 of six discordant images: 2 (1 + 6) / 2^6."""
    assert mcnemar_p(1, 5) == pytest.approx(14 / 64)
    assert mcnemar_p(0, 0) == 1
    assert mcnemar_p(0, 3) == pytest.approx(0.25)


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_does_not_care_which_way(twin_only: int, engine_only: int) -> None:
    p = mcnemar_p(twin_only, engine_only)
    assert 0 <= p <= 1
    assert p == pytest.approx(mcnemar_p(engine_only, twin_only))
    assert mcnemar_p(twin_only, twin_only) == pytest.approx(1)


def test_mcnemar_refuses_negative_counts() -> None:
    with pytest.raises(ValueError, match="counts >= 0"):
        mcnemar_p(-1, 2)


def test_holm_by_hand() -> None:
    """Four tests: 0.005 * 4, 0.01 * 3, then 0.03 * 2 and 0.04 * 1, which may not fall below the one before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_of_one_and_of_none() -> None:
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_raw_and_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for raw, one in zip(p_values, adjusted, strict=True):
        assert raw <= one <= min(1.0, len(p_values) * max(p_values))
        assert one >= min(1.0, len(p_values) * min(p_values)) - 1e-12
    by_raw = [one for _, one in sorted(zip(p_values, adjusted, strict=True))]
    assert by_raw == sorted(by_raw)


def rights(both: int, twin_only: int, engine_only: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [both, twin_only, engine_only, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_bootstrap_ratio_is_the_ratio_with_an_interval_around_it() -> None:
    ratio, (lower, upper) = bootstrap_ratio(*rights(80, 20, 5, 151), seed=0)
    assert ratio == 85 / 100
    assert lower < ratio < upper


def test_bootstrap_ratio_agrees_with_resampling_the_images() -> None:
    """The multinomial draw of the table against the plain way: indices drawn with replacement."""
    twin, engine = rights(60, 15, 5, 120)
    rng = np.random.default_rng(1)
    plain = []
    for _ in range(4000):
        index = rng.integers(0, len(twin), len(twin))
        plain.append(engine[index].sum() / twin[index].sum())
    _, interval = bootstrap_ratio(twin, engine, seed=2, draws=4000)
    assert interval == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.02)


def test_bootstrap_ratio_is_paired() -> None:
    """Where the two always agree there is nothing to resample between them, however few they have right."""
    assert bootstrap_ratio(*rights(10, 0, 0, 90), seed=0) == (1.0, (1.0, 1.0))


def test_bootstrap_ratio_is_seeded() -> None:
    table = rights(50, 10, 3, 40)
    assert bootstrap_ratio(*table, seed=7) == bootstrap_ratio(*table, seed=7)
    assert bootstrap_ratio(*table, seed=7) != bootstrap_ratio(*table, seed=8)


def test_no_ratio_to_nothing() -> None:
    assert bootstrap_ratio(*rights(0, 0, 5, 5), seed=0) is None


@given(st.integers(1, 60), st.data(), st.sampled_from([0.9, 0.95, 0.999]))
def test_exact_bounds_are_scipys_and_cover(n, data, confidence):
    correct = data.draw(st.integers(0, n))
    lower, upper = exact(correct, n, confidence)
    assert lower == pytest.approx(binomtest(correct, n, alternative="greater").proportion_ci(confidence, "exact").low, abs=1e-9)
    assert upper == pytest.approx(binomtest(correct, n, alternative="less").proportion_ci(confidence, "exact").high, abs=1e-9)
    true = data.draw(st.floats(0.01, 0.99))
    weights = binom.pmf(np.arange(n + 1), n, true)
    held = np.array([(low <= true, true <= high) for low, high in (exact(k, n, confidence) for k in range(n + 1))])
    assert (weights @ held >= confidence - 1e-9).all()


def test_a_quantile_has_a_bound_from_the_known_number_of_values_on():
    assert (calls_needed(0.95, 0.95), calls_needed(0.99, 0.95), calls_needed(0.5, 0.95)) == (59, 299, 5)
    for rank, n in ((0.95, 59), (0.99, 299), (0.5, 5)):
        values = np.arange(1.0, n + 1)
        assert quantile_bounds(values, rank, 0.95)[1] == n
        assert quantile_bounds(values[1:], rank, 0.95)[1] is None
        assert quantile_bounds(values, 1 - rank, 0.95)[0] == 1


def test_the_bounds_of_a_median_are_the_sign_tests():
    """Conover's table: of 10 values, the 2nd and the 9th are each a bound at 98.9 %, the 3rd and 8th at 94.5 % only."""
    assert quantile_bounds(np.arange(1.0, 11), 0.5, 0.95) == (2, 9)
    assert quantile_bounds(np.arange(1.0, 11), 0.5, 0.945) == (3, 8)


def test_quantile_bounds_cover():
    rng = np.random.default_rng(0)
    for rank in (0.5, 0.9):
        true = -np.log(1 - rank)
        found = [quantile_bounds(rng.exponential(size=200), rank, 0.9) for _ in range(2000)]
        assert np.mean([low is not None and low <= true for low, _ in found]) > 0.88
        assert np.mean([high is not None and high >= true for _, high in found]) > 0.88


def test_mean_bounds_are_students():
    values = np.array([1.0, 1.2, 0.9, 1.1, 1.05])
    told = ttest_1samp(values, 0).confidence_interval(0.9)
    assert mean_bounds(values, 0.95) == pytest.approx((told.low, told.high))
    assert mean_bounds(values[:1], 0.95) == (None, None)


@pytest.mark.parametrize(("true", "limit"), [(0.75, 0.7), (0.65, 0.7), (0.97, 0.95), (0.02, 0.05)])
def test_the_images_that_are_asked_for_decide_four_times_in_five(true, limit):
    n = n_for_share(true, limit)
    counts = np.arange(n + 1)
    bounds = [exact(int(k), n, 0.95) for k in counts]
    decided = np.array([low > limit if true > limit else high < limit for low, high in bounds])
    assert 0.72 < binom.pmf(counts, n, true) @ decided < 0.88
    assert n_for_share(limit, limit) is None


@pytest.mark.parametrize("near", [0.0, 1e-300, 1e-18, 1e-10, 1e-6])
def test_more_images_than_anybody_has_are_no_advice(near: float) -> None:
    """A limit next to the figure itself: the square of the difference is as good as 0, or the number is none that a table holds."""
    for gap in (0.0, 0.02):
        assert n_required(0.1, gap, gap + near) is None
    assert n_for_share(0.02, 0.02 + near) is None and n_for_share(0.0, 1e-300) is None
    assert n_required(0.1, 0.0, 0.02) is not None and n_for_share(0.02, 0.021) is not None


def test_a_share_over_several_trials_of_an_image_is_resampled_by_the_image() -> None:
    """Three trials of an image that always end alike hold no more evidence than one: the interval is that of a third as many trials."""
    hits = np.repeat([0.0, 1.0], 50)
    once, thrice = bootstrap_share(hits, np.ones(100), seed=0), bootstrap_share(3 * hits, np.full(100, 3.0), seed=0)
    assert once == thrice and once is not None
    assert once[0] == 0.5 and once[1] == pytest.approx(wilson(50, 100), abs=0.02)
    assert bootstrap_share(np.zeros(4), np.zeros(4), seed=0) is None
    unequal = bootstrap_share(np.array([1.0, 0, 0]), np.array([1.0, 3, 0]), seed=0)
    assert unequal is not None and unequal[0] == 0.25


def test_the_order_correlation_is_the_gini_correlation_of_each_row() -> None:
    """By hand: of 0, 1, 5 the pairs are 1, 5 and 4 apart; with the first two in the other order (10 - 2 * 1) / 10 remains."""
    row = np.array([[0.0, 1.0, 5.0]])
    for others, expected in (([1.0, 0.0, 2.0], 0.8), (-row[0], -1), (np.exp(row[0]), 1), (0 * row[0], 1)):
        assert order_correlation(1e6 + row, np.array([others])) == pytest.approx(expected)
    assert order_correlation(0 * row, -row) == 1
    assert order_correlation(np.vstack([row, row]), np.vstack([row, -row])) == pytest.approx([1, -1])


def test_the_highest_rank_correlation_covers_the_true_one() -> None:
    """Of figures that correlate by 0.4 (Pearson; by 6/pi asin(0.2) = 0.385 in ranks) the interval's end is below that in one case of 40."""
    draw = np.random.default_rng(0)
    truth, below = 6 / np.pi * np.arcsin(0.2), 0
    for _ in range(2000):
        one, other = draw.multivariate_normal([0, 0], [[1, 0.4], [0.4, 1]], 50).T
        below += highest_rank_correlation(one, np.exp(other)) < truth
    assert 0.015 < below / 2000 < 0.04
    up = np.arange(5.0)
    assert highest_rank_correlation(up, up) == pytest.approx(1)
    assert highest_rank_correlation(up[:3], -up[:3]) == highest_rank_correlation(up, 0 * up) == 1
