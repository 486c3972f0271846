"""Intervals, tests and sample sizes for counts of images, single and paired.

The paired table throughout: of n images, `twin_only` are right on the twin and wrong on the engine, `engine_only` the
reverse, and the gap is p_twin - p_engine = (twin_only - engine_only) / n. Images on which the two agree count in n only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import beta, binom, binomtest, quantile_test, spearmanr, ttest_ind
from scipy.stats import t as student

from harness.records import Interval, Median, Share

ALPHA = 0.05
POWER = 0.8
MOST_IMAGES = 10**9  # beyond it a number of images is no advice
TOO_NEAR = 1e-9  # of two shares: to tell them apart takes more images than that


def wilson(correct: int, n: int, confidence: float = 0.95) -> Interval:
    """Two-sided score interval of a share (Wilson 1927, JASA 22:209-212).

    Raises:
        ValueError: not 0 <= correct <= n with n >= 1.
    """
    if n < 1 or not 0 <= correct <= n:
        raise ValueError(f"got {correct} of {n}; expected 0 <= correct <= n, n >= 1")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (correct + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(correct * (n - correct) / n + z * z / 4)
    return (0.0 if correct == 0 else centre - half, 1.0 if correct == n else centre + half)


def exact(correct: int, n: int, confidence: float) -> Interval:
    """Lower and upper bound of a share, each one-sided at `confidence` at least (Clopper & Pearson 1934, Biometrika 26:404-413).

    Raises:
        ValueError: not 0 <= correct <= n with n >= 1.
    """
    if n < 1 or not 0 <= correct <= n:
        raise ValueError(f"got {correct} of {n}; expected 0 <= correct <= n, n >= 1")
    lower = beta.ppf(1 - confidence, correct, n - correct + 1) if correct else 0.0
    upper = beta.ppf(confidence, correct + 1, n - correct) if correct < n else 1.0
    return float(lower), float(upper)


def n_for_share(supposed: float, limit: float, *, alpha: float = ALPHA, power: float = POWER) -> int | None:
    """Images needed to tell a share supposed to be true from a limit, or None as `n_required`.

    n = (z_alpha sqrt(limit (1 - limit)) + z_power sqrt(p (1 - p)))^2 / (p - limit)^2, the normal approximation of the binomial test; never
    fewer than from which `exact` could decide were every image on the same side.
    """
    if math.isclose(supposed, limit, rel_tol=0, abs_tol=TOO_NEAR):
        return None
    z_alpha, z_power = NormalDist().inv_cdf(1 - alpha), NormalDist().inv_cdf(power)
    spread = z_alpha * math.sqrt(limit * (1 - limit)) + z_power * math.sqrt(supposed * (1 - supposed))
    least = math.log(alpha) / math.log(limit if supposed > limit else 1 - limit)
    return _at_hand(max((spread / (supposed - limit)) ** 2, least))


def quantile_bounds(values: NDArray[np.float64], rank: float, confidence: float) -> tuple[float | None, float | None]:
    """Lower and upper bound of a quantile, each one-sided at `confidence` at least: two of the values (n,), which are independent draws.

    None where n is too small for a bound (Conover, "Practical Nonparametric Statistics", 3.2).
    """
    ordered, n = np.sort(values), len(values)
    upper = int(binom.ppf(confidence, n, rank))  # the smallest k with P(fewer than k + 1 values lie below the quantile) >= confidence
    lower = int(binom.ppf(1 - confidence, n, rank)) - 1
    return (float(ordered[lower]) if lower >= 0 else None, float(ordered[upper]) if upper < n else None)


def calls_needed(rank: float, confidence: float) -> int:
    """Fewest values from which `quantile_bounds` has an upper bound: rank^n <= 1 - confidence."""
    return math.ceil(math.log(1 - confidence) / math.log(rank))


def mean_bounds(values: NDArray[np.float64], confidence: float) -> tuple[float | None, float | None]:
    """Lower and upper bound of a mean, each one-sided at `confidence` (Student's t); None for fewer than two values (n,)."""
    if len(values) < 2:
        return None, None
    half = float(student.ppf(confidence, len(values) - 1)) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()) - half, float(values.mean()) + half


def welch_bounds(values: NDArray[np.float64], others: NDArray[np.float64], confidence: float) -> tuple[float | None, float | None]:
    """Lower and upper bound of mean(values) - mean(others), each one-sided (Welch 1947, Biometrika 34:28-35); None for fewer than two of
    either, (n,) and (m,).
    """
    if min(len(values), len(others)) < 2:
        return None, None
    interval = ttest_ind(values, others, equal_var=False).confidence_interval(2 * confidence - 1)
    return float(interval.low), float(interval.high)


def share(correct: int, n: int) -> Share:
    """A count out of n as the record holds it, with its 95 % Wilson interval.

    Raises:
        ValueError: not 0 <= correct <= n with n >= 1.
    """
    return Share(correct=int(correct), n=int(n), accuracy=correct / n if n else math.nan, ci95=wilson(correct, n))


def no_information_rate(labels: NDArray[np.integer], classes: int) -> float:
    """The share of the most frequent of the labels, int (n,); one in `classes` where all labels are the same."""
    counts = np.bincount(labels)
    return float(counts.max() / len(labels)) if np.count_nonzero(counts) > 1 else 1 / classes


def guesses_rate(labels: NDArray[np.integer], predictions: NDArray[np.integer]) -> float:
    """The share that is right of as many guesses of each class as there are predictions of it, int (n,) each: the agreement that Cohen
    (1960) expects by chance. No more than that of the most frequent label, and of one class named for all as much.
    """
    longest = int(max(labels.max(), predictions.max())) + 1
    said = [np.bincount(each, minlength=longest) / len(each) for each in (labels, predictions)]
    return float(said[0] @ said[1])


def median(values: NDArray[np.float64]) -> Median:
    """The median of figures (n,), with a 95 % interval between two of them (Conover, "Practical Nonparametric Statistics", 3.2).

    Infinite ones were looked for and not found: censored, they count as larger than all others. Few figures leave the interval open.
    """
    bounds = np.asarray(quantile_test(values).confidence_interval(0.95))
    value, low, high = (float(v) if math.isfinite(v) else None for v in (np.median(values), *bounds))
    return Median(value=value, n=len(values), missing=int(np.isinf(values).sum()), low=low, high=high)


def highest_rank_correlation(values: NDArray[np.float64], others: NDArray[np.float64], confidence: float = 0.95) -> float:
    """Upper end of the two-sided interval of Spearman's correlation of figures (n,) each, by Fisher's z with the standard error of Fieller,
    Hartley & Pearson (1957, Biometrika 44:470-481), 1.03 / sqrt(n - 3). 1 where nothing is told: of fewer than four, or all alike.
    """
    n = len(values)
    if n < 4 or min(np.ptp(values), np.ptp(others)) == 0:
        return 1.0
    found = min(max(float(spearmanr(values, others).statistic), TOO_NEAR - 1), 1 - TOO_NEAR)
    return math.tanh(math.atanh(found) + NormalDist().inv_cdf((1 + confidence) / 2) * 1.03 / math.sqrt(n - 3))


def order_correlation(values: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """The Gini correlation (Schechtman & Yitzhaki 1987) of each row of figures, (n, k) each: 1 where a row of `others` has the order of
    `values`, -1 where it has the reverse. What is nearly equal in `values` counts little, what is equal in `others` for it. 1 where a whole
    row of `values` is equal.
    """
    wide = values - values.mean(axis=1, keepdims=True, dtype=np.float64)
    place = np.lexsort((wide, others), axis=1)
    weights = 2 * np.arange(wide.shape[1]) - (wide.shape[1] - 1)
    most, found = np.sort(wide, axis=1) @ weights, np.take_along_axis(wide, place, axis=1) @ weights
    return np.where(most > 0, found / np.where(most > 0, most, 1), 1.0)


def tango(twin_only: int, engine_only: int, n: int, confidence: float = 0.95) -> Interval:
    """Lower and upper score bounds of the gap, each one-sided at `confidence` (Tango 1998, Statistics in Medicine 17:891-908).

    The two together are the two-sided interval at 2 * confidence - 1, 90 % by default. With no discordant image the
    upper bound is z^2 / (n + z^2); with every image discordant one way it is 1.

    Raises:
        ValueError: the counts are no paired table, or `confidence` is not in (0.5, 1).
    """
    _check_table(twin_only, engine_only, n)
    if not 0.5 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; expected a one-sided level in (0.5, 1)")
    z = NormalDist().inv_cdf(confidence)
    return (-_upper(engine_only, twin_only, n, z), _upper(twin_only, engine_only, n, z))


def tango_p(twin_only: int, engine_only: int, n: int, margin: float) -> float:
    """One-sided score p-value of "gap >= margin"; below alpha exactly where Tango's upper bound at 1 - alpha is below `margin`.

    Raises:
        ValueError: the counts are no paired table, or `margin` is not in (-1, 1).
    """
    _check_table(twin_only, engine_only, n)
    if not -1 < margin < 1:
        raise ValueError(f"margin is {margin}; expected a share in (-1, 1)")
    return NormalDist().cdf(_score(twin_only, engine_only, n, margin))


def mcnemar_p(twin_only: int, engine_only: int) -> float:
    """Exact two-sided p-value of "no gap": binomial, half of the discordant images each way (McNemar 1947, Psychometrika 12:153-157).

    It stands beside the verdict and decides nothing: a large p is no evidence that the two are equal. 1 without a discordant image.

    Raises:
        ValueError: a count is negative.
    """
    if min(twin_only, engine_only) < 0:
        raise ValueError(f"got twin_only {twin_only}, engine_only {engine_only}; expected counts >= 0")
    discordant = twin_only + engine_only
    return float(binomtest(twin_only, discordant).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values in the order given (Holm 1979, Scand J Statist 6:65-70).

    Rejecting where the adjusted value is below alpha keeps the chance of any false rejection below alpha,
    however the tests depend on each other.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def n_required(psi: float, gap: float, margin: float, *, alpha: float = ALPHA, power: float = POWER) -> int | None:
    """Images needed to tell `gap` from `margin` (on either side of it), or None where they are equal, or need more than `MOST_IMAGES`.

    n = (z_alpha sqrt(v0) + z_power sqrt(v1))^2 / (margin - gap)^2, the sample size of the paired score test (Nam 1997, Biometrics
    53:1422-1430): v0 and v1 are the variances of one image's difference under the null hypothesis, a gap of exactly `margin`, and under
    the alternative, psi - gap^2. With v1 in place of v0 it is the simpler (z_alpha + z_power)^2 psi / margin^2 at a gap of 0, which is
    right where many images are discordant, and with few decides in no more than half of the runs.
    Never fewer than the n from which Tango's upper bound is below `margin` with no discordant image at all,
    z^2 / (n + z^2) < margin.

    Args:
        psi: discordance, the share of images on which exactly one of the two is right.
        gap: p_twin - p_engine supposed to be true.
        margin: the share that the gap is compared with, in (0, 1).
        alpha: one-sided level.
        power: chance to decide, were psi and gap true.
    """
    if math.isclose(gap, margin, rel_tol=0, abs_tol=TOO_NEAR):
        return None
    z = NormalDist().inv_cdf(1 - alpha)
    null = _variance(max(psi + gap, 0.0) / 2, max(psi - gap, 0.0) / 2, 1, margin)
    spread = z * math.sqrt(null) + NormalDist().inv_cdf(power) * math.sqrt(max(psi - gap**2, 0.0))
    needed = (spread / (margin - gap)) ** 2
    least = math.floor(z * z * (1 - margin) / margin) + 1
    return _at_hand(max(needed, least))


def _at_hand(needed: float) -> int | None:
    """A number of images, or None where nobody has so many."""
    return None if needed > MOST_IMAGES else math.ceil(needed)


def bootstrap_ratio(
    twin_right: NDArray[np.bool_], engine_right: NDArray[np.bool_], *, seed: int, draws: int = 2000, confidence: float = 0.95
) -> tuple[float, Interval] | None:
    """Relative robustness RA(engine) / RA(twin) and its paired bootstrap percentile interval (Efron & Tibshirani 1993, ch. 13).

    Images are resampled with replacement, each with both of its outcomes: that is a multinomial draw of the 2x2 table.

    Args:
        twin_right: bool (n,), the twin is right on the image and on x'.
        engine_right: bool (n,), the same of the engine.
        seed: of the resampling.
        draws: number of resamples.
        confidence: two-sided.

    Returns:
        The ratio and its interval, or None where the twin is right on no image. Resamples in which it is right on none are left out.
    """
    n = len(twin_right)
    table = np.bincount(2 * twin_right.astype(np.intp) + engine_right, minlength=4)
    if table[2] + table[3] == 0:
        return None
    counts = np.random.default_rng(seed).multinomial(n, table / n, size=draws)
    twin, engine = counts[:, 2] + counts[:, 3], counts[:, 1] + counts[:, 3]
    ratios = engine[twin > 0] / twin[twin > 0]
    if not len(ratios):
        return None
    lower, upper = np.quantile(ratios, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float((table[1] + table[3]) / (table[2] + table[3])), (float(lower), float(upper))


def bootstrap_share(
    hits: NDArray[np.float64], trials: NDArray[np.float64], *, seed: int, draws: int = 2000, confidence: float = 0.95
) -> tuple[float, Interval] | None:
    """Hits over trials where an image has several trials, and the percentile interval of a bootstrap over images, float (n,) each.

    An image is resampled with all its trials (Efron & Tibshirani 1993, ch. 13). None where there is no trial; resamples without one are
    left out. Images without trials change no ratio and are left out too.
    """
    tried = trials > 0
    hits, trials = hits[tried], trials[tried]
    n = len(trials)
    if not n:
        return None
    # How often each image is drawn matters only through its pair of counts: a multinomial draw over the pairs that occur.
    pairs, times = np.unique(np.stack([hits, trials], axis=1), axis=0, return_counts=True)
    counts = np.random.default_rng(seed).multinomial(n, times / n, size=draws)
    ratios = counts @ pairs[:, 0] / (counts @ pairs[:, 1])
    lower, upper = np.quantile(ratios, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(hits.sum() / trials.sum()), (float(lower), float(upper))


def _check_table(twin_only: int, engine_only: int, n: int) -> None:
    if n < 1 or min(twin_only, engine_only) < 0 or twin_only + engine_only > n:
        raise ValueError(
            f"got twin_only {twin_only}, engine_only {engine_only} of n {n}; expected counts >= 0 that sum to at most n, n >= 1"
        )


def _upper(b: int, c: int, n: int, z: float) -> float:
    """The gap at which the score statistic falls to -z."""
    if b == n:
        return 1.0
    # The statistic is -infinity at a gap of 1; any finite value below -z brackets the root as well.
    return float(brentq(lambda gap: max(_score(b, c, n, gap), -2 * z) + z, (b - c) / n, 1.0, xtol=1e-13))


def _score(b: int, c: int, n: int, gap: float) -> float:
    """Tango's statistic (equations 24-26, with gap = -Delta), decreasing in `gap`: 0 at the estimate, McNemar's z at gap = 0."""
    if gap < 0:  # mirrored, so that the constant term is never negative and nothing cancels
        return -_score(c, b, n, -gap)
    variance = _variance(b, c, n, gap)
    difference = b - c - n * gap
    if variance <= 0:
        return math.copysign(math.inf, difference) if difference else 0.0
    return difference / math.sqrt(variance)


def _variance(b: float, c: float, n: int, gap: float) -> float:
    """Of the difference of n images with b and c discordant ones (shares, where n is 1) under a given gap >= 0.

    It is taken at q, the maximum-likelihood estimate of P(engine only) under that gap, the positive root of
    2n q^2 + linear q - constant = 0.
    """
    linear = (2 * n - b + c) * gap - b - c
    constant = c * gap * (1 - gap)
    root = math.sqrt(linear * linear + 8 * n * constant)
    q = 2 * constant / (linear + root) if linear > 0 else (root - linear) / (4 * n)
    return n * (2 * q + gap * (1 - gap))
