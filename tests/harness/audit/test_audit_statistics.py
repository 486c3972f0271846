"""Wilson, McNemar, Holm and the paired bootstrap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from harness.audit.statistics import bootstrap_ratio, holm, mcnemar_p, median, share, wilson


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
