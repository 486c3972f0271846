"""Tango's paired score interval: a brute-force oracle, published figures, properties, and its exact error rates."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import bisect, minimize_scalar
from scipy.stats import multinomial, norm

from harness.audit.statistics import n_required, tango, tango_p


@st.composite
def tables(draw: st.DrawFn, largest: int = 2000) -> tuple[int, int, int]:
    n = draw(st.integers(1, largest))
    twin_only = draw(st.integers(0, n))
    return twin_only, draw(st.integers(0, n - twin_only)), n


def brute_force_score(b: int, c: int, n: int, gap: float) -> float:
    """The score statistic with the constrained maximum found numerically: no algebra shared with the code under test."""

    def minus_log_likelihood(q: float) -> float:
        cells = ((b, q + gap), (c, q), (n - b - c, 1 - gap - 2 * q))
        return -sum(count * math.log(p) if p > 0 else -math.inf for count, p in cells if count)

    low, high = max(0.0, -gap), (1 - gap) / 2
    inner = minimize_scalar(minus_log_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-13}).x
    q = min((low, inner, high), key=minus_log_likelihood)
    return (b - c - n * gap) / math.sqrt(n * (2 * q + gap - gap * gap))


def brute_force_interval(b: int, c: int, n: int, confidence: float) -> tuple[float, float]:
    z, estimate, nearly = norm.ppf(confidence), (b - c) / n, 1e-9
    lower = bisect(lambda gap: brute_force_score(b, c, n, gap) - z, -1 + nearly, estimate - nearly) if c < n else -1.0
    upper = bisect(lambda gap: brute_force_score(b, c, n, gap) + z, estimate + nearly, 1 - nearly) if b < n else 1.0
    return lower, upper


EDGES = [
    (0, 0, 1),
    (1, 0, 1),
    (0, 1, 1),
    (0, 0, 256),
    (7, 0, 7),
    (0, 7, 7),
    (3, 4, 7),
    (1, 0, 256),
    (0, 1, 256),
    (255, 1, 256),
    (999, 0, 1000),
]
ORDINARY = [(3, 1, 256), (40, 20, 160), (12, 12, 50), (5, 60, 1000), (30, 9, 1000), (2, 2, 10)]


@pytest.mark.parametrize(("b", "c", "n"), EDGES + ORDINARY)
@pytest.mark.parametrize("confidence", [0.95, 0.9875])
def test_tango_equals_the_brute_force_interval(b: int, c: int, n: int, confidence: float) -> None:
    assert tango(b, c, n, confidence) == pytest.approx(brute_force_interval(b, c, n, confidence), abs=2e-6)


@pytest.mark.parametrize(
    ("twin_only", "engine_only", "n", "confidence", "published", "digits"),
    [
        # Tango 1998, section 6.1 (soft contact lenses, cells 43, 0, 1, 0): the 90 % interval's lower limit, mirrored here.
        pytest.param(1, 0, 44, 0.95, (None, 0.096), 3, id="Tango 1998, contact lenses"),
        # Fagerland, Lydersen & Laake 2014 (Statistics in Medicine 33:2850), cells 1, 1, 7, 12 (Bentur et al. 2009).
        pytest.param(1, 7, 21, 0.975, (-0.517, -0.026), 3, id="Fagerland 2014, airway reactivity"),
        # R package contingencytables 3.0.0, its own test of chapter 8: cells 59, 6, 16, 80 (Cavo et al. 2012).
        pytest.param(6, 16, 161, 0.975, (-0.1240, -0.0054), 4, id="contingencytables, Cavo 2012"),
        # R package PropCIs 0.3-0: scoreci.mp(b, c, n) bounds (c - b) / n; its outputs as printed by users of the package.
        pytest.param(60, 20, 1000, 0.975, (0.0231, 0.0584), 4, id="PropCIs scoreci.mp(20, 60, 1000)"),
        pytest.param(28, 25, 618, 0.95, (-0.0148, 0.0247), 4, id="PropCIs scoreci.mp(25, 28, 618, 0.90)"),
    ],
)
def test_tango_equals_published_intervals(
    twin_only: int, engine_only: int, n: int, confidence: float, published: tuple[float | None, float | None], digits: int
) -> None:
    for ours, theirs in zip(tango(twin_only, engine_only, n, confidence), published, strict=True):
        assert theirs is None or round(ours, digits) == theirs


def test_the_p_value_equals_the_published_one() -> None:
    """Tango 1998, section 6.1: statistic 1.709, one-sided p 0.044 at a margin of 0.1."""
    assert round(tango_p(1, 0, 44, 0.1), 3) == 0.044
    assert round(norm.isf(tango_p(1, 0, 44, 0.1)), 3) == 1.709


@given(tables())
def test_swapping_the_two_mirrors_the_interval(table: tuple[int, int, int]) -> None:
    b, c, n = table
    lower, upper = tango(b, c, n)
    assert tango(c, b, n) == (-upper, -lower)


@given(tables())
def test_the_interval_lies_in_the_parameter_space_and_holds_the_estimate(table: tuple[int, int, int]) -> None:
    b, c, n = table
    lower, upper = tango(b, c, n)
    assert -1 <= lower <= (b - c) / n <= upper <= 1


@given(tables(), st.data())
def test_one_more_loss_raises_both_bounds(table: tuple[int, int, int], data: st.DataObject) -> None:
    b, c, n = table
    if b + c == n:  # an image that was a win, or agreed, becomes a loss
        b, c = (b, c - 1) if c else (b - 1, c)
    lower, upper = tango(b, c, n)
    more_lower, more_upper = tango(b + 1, c, n)
    assert more_lower >= lower - 1e-9
    assert more_upper >= upper - 1e-9


@given(tables(), st.floats(0.51, 0.98))
def test_more_confidence_widens_the_interval(table: tuple[int, int, int], confidence: float) -> None:
    b, c, n = table
    narrow, wide = tango(b, c, n, confidence), tango(b, c, n, confidence + 0.01)
    assert wide[0] <= narrow[0] <= narrow[1] <= wide[1]


@given(tables(), st.floats(0.005, 0.5))
def test_the_p_value_and_the_upper_bound_decide_alike(table: tuple[int, int, int], margin: float) -> None:
    upper = tango(*table)[1]
    if abs(upper - margin) > 1e-9:
        assert (tango_p(*table, margin) < 0.05) == (upper < margin)


def test_no_discordant_image_has_a_closed_form() -> None:
    z = norm.ppf(0.95)
    assert tango(0, 0, 256) == pytest.approx((-z * z / (256 + z * z), z * z / (256 + z * z)))
    assert tango_p(0, 0, 256, 0.0) == 0.5


@pytest.mark.parametrize("n", [7, 256])
def test_a_discriminant_of_zero_does_not_fall_below_it(n: int) -> None:
    """With no loss on the engine, the quadratic of the constrained maximum is a perfect square, zero at gap = -c / (2n - c)."""
    for c in range(1, n):
        assert 0 < tango_p(0, c, n, -c / (2 * n - c)) < 0.5


def test_every_image_lost_leaves_nothing_above() -> None:
    lower, upper = tango(30, 0, 30)
    assert upper == 1
    assert 0.8 < lower < 1


@pytest.mark.parametrize("table", [(0, 0, 0), (-1, 0, 5), (3, 3, 5)])
def test_impossible_tables_are_refused(table: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="expected counts"):
        tango(*table)
    with pytest.raises(ValueError, match="expected counts"):
        tango_p(*table, 0.02)


@pytest.mark.parametrize("confidence", [0.5, 1.0, 95.0])
def test_impossible_confidence_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="one-sided level"):
        tango(1, 1, 10, confidence)


# --- error rates. Every table of n images is enumerated with its probability: exact, no Monte Carlo error.


def likely_tables(n: int, psi: float, gap: float) -> list[tuple[int, int, float]]:
    """Counts (twin_only, engine_only) and their probability, those below 1e-9 left out."""
    p = np.array([(psi + gap) / 2, (psi - gap) / 2])
    reach = np.minimum(n, n * p + 8 * np.sqrt(n * p) + 8).astype(int) + 1
    b, c = (grid.ravel() for grid in np.indices(reach))
    b, c = b[b + c <= n], c[b + c <= n]
    probability = multinomial.pmf(np.stack([b, c, n - b - c], axis=1), n, [*p, 1 - p.sum()])
    keep = probability > 1e-9
    return list(zip(b[keep].tolist(), c[keep].tolist(), probability[keep].tolist(), strict=True))


def chance_below(n: int, psi: float, gap: float, margin: float, alpha: float = 0.05) -> float:
    """Chance that the upper bound at 1 - alpha is below `margin`."""
    return sum(p for b, c, p in likely_tables(n, psi, gap) if tango_p(b, c, n, margin) < alpha)


@pytest.mark.parametrize("n", [64, 256, 1000])
@pytest.mark.parametrize(("psi", "gap"), [(0.05, 0.0), (0.10, 0.05), (0.10, -0.02), (0.20, 0.10), (0.30, -0.25), (0.50, 0.0)])
def test_each_bound_covers_95_percent(n: int, psi: float, gap: float) -> None:
    upper_covers = 1 - chance_below(n, psi, gap, gap)
    lower_covers = 1 - chance_below(n, psi, -gap, -gap)  # the lower bound is the upper one mirrored
    assert 0.93 <= upper_covers <= 0.985
    assert 0.93 <= lower_covers <= 0.985


@pytest.mark.parametrize(("n", "margin"), [(256, 0.05), (1000, 0.02), (250, 0.02)])
def test_a_gap_of_exactly_the_margin_is_signed_off_in_about_5_percent_of_runs(n: int, margin: float) -> None:
    """The worst is 5.5 %, at n = 256 and where the engine is never better (psi = margin): the counts are discrete."""
    sizes = [chance_below(n, psi, margin, margin) for psi in (margin, 1.1 * margin, 0.03, 0.05, 0.08, 0.12, 0.2) if psi >= margin]
    assert max(sizes) <= 0.056
    assert all(chance_below(n, 0.2, gap, margin) < 0.05 for gap in (1.1 * margin, 2 * margin))


def test_wald_would_sign_off_too_often() -> None:
    """The design's reason for Tango: at a true gap of 2 points, n = 250 and psi = 3 %, Wald errs in 8.3 % of runs, Tango in 3.8 %."""
    z = norm.ppf(0.95)
    wald = sum(
        p for b, c, p in likely_tables(250, 0.03, 0.02) if (b - c) / 250 + z * math.sqrt((b + c - (b - c) ** 2 / 250) / 250**2) < 0.02
    )
    assert wald == pytest.approx(0.083, abs=0.001)
    assert chance_below(250, 0.03, 0.02, 0.02) == pytest.approx(0.038, abs=0.001)


# --- sample size

SAMPLES = [
    (0.02, 0.0, 0.02), (0.05, 0.0, 0.02), (0.05, 0.005, 0.02), (0.10, -0.01, 0.02), (0.10, 0.0, 0.05), (0.02, 0.0, 0.05),
    (0.04, 0.01, 0.05),
]  # fmt: skip


@pytest.mark.parametrize(("psi", "n", "power"), [(0.02, 310, 0.67), (0.05, 773, 0.78), (0.10, 1546, 0.80), (0.40, 6183, 0.80)])
def test_the_rule_of_thumb_is_what_many_discordant_images_come_to(psi: float, n: int, power: float) -> None:
    """(z_alpha + z_power)^2 psi / margin^2, the protocol's first guess: with few discordant images it promises more than it decides."""
    assert round((1.6449 + 0.8416) ** 2 * psi / 0.02**2) == pytest.approx(n, abs=1)
    assert chance_below(n, psi, 0.0, 0.02) == pytest.approx(power, abs=0.02)
    needed = n_required(psi, 0.0, 0.02)
    assert needed is not None and needed > n
    assert needed / n - 1 < 0.0075 / psi


@pytest.mark.parametrize(("psi", "gap", "margin"), SAMPLES)
def test_the_required_sample_decides_four_times_in_five(psi: float, gap: float, margin: float) -> None:
    n = n_required(psi, gap, margin)
    assert n is not None
    assert 0.78 <= chance_below(n, psi, gap, margin) <= 0.85


@pytest.mark.parametrize("margin", [0.01, 0.02, 0.05])
def test_with_no_discordance_the_required_sample_is_the_first_that_decides(margin: float) -> None:
    n = n_required(0.0, 0.0, margin)
    assert n is not None
    assert tango(0, 0, n)[1] < margin <= tango(0, 0, n - 1)[1]


def test_a_gap_above_the_margin_needs_a_sample_too_and_one_equal_to_it_has_none() -> None:
    assert n_required(0.10, 0.04, 0.02) is not None
    assert n_required(0.10, 0.02, 0.02) is None


@given(st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0.001, 0.019))
@settings(max_examples=50)
def test_more_discordance_or_a_smaller_distance_needs_more_images(psi: float, more: float, gap: float) -> None:
    assert n_required(psi + more, 0.0, 0.02) >= n_required(psi, 0.0, 0.02)
    assert n_required(0.5, gap, 0.02) >= n_required(0.5, gap - 0.001, 0.02)
