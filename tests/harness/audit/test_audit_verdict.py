"""The verdict rule: every branch, the words that go with it, and how often it errs."""

from dataclasses import replace
from functools import cache
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.audit.gates import not_tested
from harness.audit.statistics import bootstrap_ratio, holm, mcnemar_p, n_required, tango, tango_p
from harness.audit.verdict import Comparison, claims, overall
from harness.records import Claim, Gate, Verdict
from harness.sources import lacking

ADAPTIVE = frozenset({"S1", "S3", "S4"})
TRANSFER = frozenset({"S0", "S1"})


def compare(
    both: int,
    twin_only: int,
    engine_only: int,
    neither: int,
    *,
    sources: frozenset[str] = ADAPTIVE,
    engine: str = "ort-int8",
    control: bool = False,
    flavour: str = "",
) -> Comparison:
    counts = [both, twin_only, engine_only, neither]
    return Comparison(
        engine=engine,
        eps_exact="8/255",
        twin_right=np.repeat([True, True, False, False], counts),
        engine_right=np.repeat([True, False, True, False], counts),
        sources=sources,
        missing=tuple(lacking(sources, own_graph=True)),
        control=control,
        flavour=flavour,
    )


def gate(passed: bool | None, engine: str | None = None, name: str = "noise floor") -> Gate:
    return Gate(name=name, engine=engine, passed=passed, observed="seen", limit="limit", remedy="remedy")


def judge(comparison: Comparison, *gates: Gate, margin: float = 0.05) -> Claim:
    return claims([comparison], gates, margin)[0]


def test_a_claim_that_fails_does_so_where_a_gate_doubts_only_that_its_attacks_were_strong() -> None:
    other_network = gate(False, "ort-int8", "engine parity")
    assert judge(compare(100, 60, 1, 95), other_network).verdict is Verdict.FAILS
    assert judge(compare(100, 60, 1, 95), other_network, gate(False)).verdict is Verdict.UNTRUSTED
    assert judge(compare(100, 1, 1, 154), other_network).verdict is Verdict.UNTRUSTED


# counts: both right, twin only, engine only, both wrong
BRANCHES = {
    "nothing lost": ((100, 1, 1, 154), ADAPTIVE, Verdict.HOLDS),
    "engine better": ((100, 1, 9, 146), ADAPTIVE, Verdict.HOLDS),
    "worse, but by less than the margin": ((400, 20, 5, 575), ADAPTIVE, Verdict.HOLDS),
    "nothing lost, transferred only": ((100, 1, 1, 154), TRANSFER, Verdict.NOT_REFUTED),
    "nothing lost, STE twin but no attack on the engine": ((100, 1, 1, 154), frozenset({"S1", "S3"}), Verdict.NOT_REFUTED),
    "nothing lost, attacks on the engine but no STE twin": ((100, 1, 1, 154), frozenset({"S1", "S4"}), Verdict.NOT_REFUTED),
    "lost more than the margin": ((60, 40, 1, 155), ADAPTIVE, Verdict.FAILS),
    "lost more than the margin, transferred only": ((60, 40, 1, 155), TRANSFER, Verdict.FAILS),
    "lost, maybe more than the margin": ((90, 14, 3, 149), ADAPTIVE, Verdict.DEGRADED),
    "lost, maybe more than the margin, transferred only": ((90, 14, 3, 149), TRANSFER, Verdict.DEGRADED),
    "too few images": ((15, 1, 1, 14), ADAPTIVE, Verdict.INCONCLUSIVE),
    "much flips both ways": ((70, 30, 28, 128), ADAPTIVE, Verdict.INCONCLUSIVE),
    "the twin has no robustness": ((1, 0, 0, 255), ADAPTIVE, Verdict.INCONCLUSIVE),
    "the twin has no robustness, transferred only": ((1, 0, 0, 255), TRANSFER, Verdict.INCONCLUSIVE),
    "the twin is about as robust as the margin": ((14, 0, 0, 242), ADAPTIVE, Verdict.INCONCLUSIVE),
    "the twin had little and lost it": ((0, 7, 0, 993), ADAPTIVE, Verdict.DEGRADED),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_verdict(name: str) -> None:
    counts, sources, expected = BRANCHES[name]
    claim = judge(compare(*counts, sources=sources))
    assert claim.verdict is expected
    assert (claim.lower, claim.upper) == tango(counts[1], counts[2], sum(counts))
    assert claim.gap == (counts[1] - counts[2]) / sum(counts)


@given(st.lists(st.integers(0, 300), min_size=4, max_size=4).filter(any), st.sampled_from([0.01, 0.02, 0.05]), st.booleans())
def test_a_single_claim_follows_the_intervals(counts: list[int], margin: float, adaptive: bool) -> None:
    """The rule once more, from the bounds alone."""
    claim = judge(compare(*counts, sources=ADAPTIVE if adaptive else TRANSFER), margin=margin)
    assert claim.lower is not None and claim.upper is not None and claim.twin_robust is not None
    below = claim.upper < margin and claim.twin_robust.ci95[0] > margin
    if claim.lower > margin:
        expected = Verdict.FAILS
    elif below:
        expected = Verdict.HOLDS if adaptive else Verdict.NOT_REFUTED
    else:
        expected = Verdict.DEGRADED if claim.lower > 0 else Verdict.INCONCLUSIVE
    assert claim.verdict is expected


# --- gates


def test_a_failed_gate_makes_the_claim_untrusted_whatever_the_figures() -> None:
    for name in ("nothing lost", "lost more than the margin", "lost, maybe more than the margin", "too few images"):
        claim = judge(compare(*BRANCHES[name][0]), gate(False))
        assert claim.verdict is Verdict.UNTRUSTED
        assert "'noise floor' (seen)" in claim.reason
        assert claim.n_required is None


@pytest.mark.parametrize(
    "harmless",
    [gate(True), gate(None), gate(False, engine="onnx-fp32"), gate(False, name="precision evidence"), not_tested("query attack", "quick")],
)
def test_gates_that_do_not_concern_the_claim_leave_it(harmless: Gate) -> None:
    assert judge(compare(100, 1, 1, 154), harmless).verdict is Verdict.HOLDS


def test_a_gate_of_one_engine_concerns_that_engine_alone() -> None:
    found = claims([compare(100, 1, 1, 154, engine="onnx-fp32"), compare(100, 1, 1, 154)], [gate(False, engine="ort-int8")], 0.05)
    assert [claim.verdict for claim in found] == [Verdict.HOLDS, Verdict.UNTRUSTED]


# --- several claims


def test_an_engine_that_failed_has_a_claim_without_figures_and_does_not_count_for_holm() -> None:
    broken = Comparison("trt-int8", "8/255", np.ones(256, dtype=bool), None, ADAPTIVE, error="worker crashed with signal 11")
    failed, held = claims([broken, compare(100, 4, 1, 151)], [gate(False, engine="trt-int8")], 0.05)
    assert failed.verdict is Verdict.ENGINE_FAILED
    assert (failed.engine_robust, failed.gap, failed.lower, failed.upper, failed.p_value, failed.n_required) == (None,) * 6
    assert (failed.mcnemar_p, failed.relative_robustness, failed.relative_ci95) == (None,) * 3
    assert failed.twin_robust is not None and failed.twin_robust.correct == 256
    assert "signal 11" in failed.reason
    assert held.p_value == tango_p(4, 1, 256, 0.05)


def test_holm_withholds_a_signature_that_one_claim_alone_would_earn() -> None:
    borderline = compare(100, 8, 3, 145)
    assert judge(borderline).verdict is Verdict.HOLDS
    together = claims([borderline] * 4, [], 0.05)
    assert {claim.verdict for claim in together} == {Verdict.INCONCLUSIVE}
    assert "not after correction for 4 claims" in together[0].reason
    assert together[0].upper is not None and together[0].upper < 0.05
    assert together[0].n_required is not None and together[0].n_required > 256


def test_the_builds_of_a_flavour_are_one_member_of_the_family_and_the_worst_counts() -> None:
    borderline = compare(100, 8, 3, 145, flavour="ort-int8")
    three = claims([borderline] * 3, [], 0.05)
    assert {claim.verdict for claim in three} == {Verdict.HOLDS} and {claim.p_value for claim in three} == {tango_p(8, 3, 256, 0.05)}
    good, bad = compare(100, 1, 1, 154, flavour="ort-int8"), compare(90, 15, 10, 141, engine="ort-int8#2", flavour="ort-int8")
    assert judge(good).verdict is Verdict.HOLDS
    held, worse = claims([good, bad], [], 0.05)
    assert held.p_value == worse.p_value == tango_p(15, 10, 256, 0.05)
    assert (held.verdict, worse.verdict) == (Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE)
    assert "another build of the flavour is worse" in held.reason and "another build" not in worse.reason
    two = claims([good, bad, compare(100, 8, 3, 145, engine="trt-int8", flavour="trt-int8")], [], 0.05)
    assert [claim.p_value for claim in two] == [held.p_value, held.p_value, holm([tango_p(15, 10, 256, 0.05), tango_p(8, 3, 256, 0.05)])[1]]


@pytest.mark.parametrize("margin", [0.05, 0.02])
@pytest.mark.parametrize("name", BRANCHES)
def test_a_control_beside_it_changes_nothing_about_a_claim(name: str, margin: float) -> None:
    """The float engine is no part of Holm's family, stands last, and undecided it leaves the run's verdict alone."""
    counts, sources, _ = BRANCHES[name]
    alone = judge(compare(*counts, sources=sources), margin=margin)
    control = compare(15, 1, 1, 14, engine="onnx-fp32", control=True)
    found = claims([control, compare(*counts, sources=sources)], [], margin)
    assert [claim.engine for claim in found] == ["ort-int8", "onnx-fp32"]
    assert found[0] == alone
    assert found[1].control and found[1].verdict is Verdict.INCONCLUSIVE
    assert overall(found) is alone.verdict


def test_a_control_that_fails_is_not_hidden() -> None:
    """Then the comparison itself is in doubt."""
    found = claims([compare(60, 40, 1, 155, engine="onnx-fp32", control=True), compare(100, 1, 1, 154)], [], 0.05)
    assert [claim.verdict for claim in found] == [Verdict.HOLDS, Verdict.FAILS]
    assert overall(found) is Verdict.FAILS


def test_holm_does_not_soften_a_refutation() -> None:
    together = claims([compare(90, 14, 3, 149), compare(60, 40, 1, 155)] * 5, [], 0.05)
    assert [claim.verdict for claim in together] == [Verdict.DEGRADED, Verdict.FAILS] * 5


def test_the_p_values_are_holms_in_the_order_of_the_claims() -> None:
    counts = [(100, 8, 3, 145), (100, 1, 1, 154), (90, 14, 3, 149)]
    found = claims([compare(*one) for one in counts], [], 0.05)
    assert [claim.p_value for claim in found] == holm([tango_p(one[1], one[2], 256, 0.05) for one in counts])


def test_mcnemar_and_the_relative_robustness_stand_beside_the_verdict_without_correction() -> None:
    comparison = compare(60, 40, 1, 155)
    ratio = bootstrap_ratio(comparison.twin_right, comparison.engine_right, seed=0)
    for claim in claims([comparison] * 3, [], 0.05):
        assert claim.mcnemar_p == mcnemar_p(40, 1)
        assert (claim.relative_robustness, claim.relative_ci95) == ratio
        assert claim.relative_robustness == 61 / 100


def test_there_is_no_relative_robustness_of_a_twin_that_has_none() -> None:
    claim = judge(compare(0, 0, 3, 253))
    assert (claim.relative_robustness, claim.relative_ci95) == (None, None)
    assert claim.mcnemar_p == 0.25


def with_verdict(verdict: Verdict) -> Claim:
    return judge(compare(100, 1, 1, 154)).model_copy(update={"verdict": verdict})


@pytest.mark.parametrize(
    ("verdicts", "worst", "exit_code"),
    [
        ([Verdict.HOLDS, Verdict.HOLDS], Verdict.HOLDS, 0),
        ([Verdict.HOLDS, Verdict.NOT_REFUTED], Verdict.NOT_REFUTED, 0),
        ([Verdict.NOT_REFUTED, Verdict.INCONCLUSIVE], Verdict.INCONCLUSIVE, 3),
        ([Verdict.UNTRUSTED, Verdict.INCONCLUSIVE], Verdict.UNTRUSTED, 3),
        ([Verdict.UNTRUSTED, Verdict.DEGRADED], Verdict.DEGRADED, 1),
        ([Verdict.FAILS, Verdict.DEGRADED, Verdict.HOLDS], Verdict.FAILS, 1),
        ([Verdict.FAILS, Verdict.ENGINE_FAILED], Verdict.ENGINE_FAILED, 4),
        ([], Verdict.INCONCLUSIVE, 3),
    ],
)
def test_the_run_is_as_good_as_its_worst_claim(verdicts: list[Verdict], worst: Verdict, exit_code: int) -> None:
    found = overall([with_verdict(one) for one in verdicts])
    assert found is worst
    assert found.exit_code == exit_code


# --- words and numbers


REASONS = {
    "nothing lost": (
        "Twin right and engine wrong on 1 of 256 images, the reverse on 1: gap 0.0 points, at most 1.4 with 95 % confidence, margin 5."
    ),
    "worse, but by less than the margin": (
        "Twin right and engine wrong on 20 of 1000 images, the reverse on 5: gap 1.5 points, at most 2.4 with 95 % confidence, margin 5. "
        "The engine is measurably worse than the twin, by less than the margin."
    ),
    "nothing lost, transferred only": (
        "Twin right and engine wrong on 1 of 256 images, the reverse on 1: gap 0.0 points, at most 1.4 with 95 % confidence, margin 5. "
        "No better verdict can be earned: low transfer may be misaligned gradients: the engine's own graph was not attacked (S3); "
        "the engine itself was not attacked (S4)."
    ),
    "nothing lost, STE twin but no attack on the engine": (
        "Twin right and engine wrong on 1 of 256 images, the reverse on 1: gap 0.0 points, at most 1.4 with 95 % confidence, margin 5. "
        "No better verdict can be earned: the engine itself was not attacked (S4)."
    ),
    "lost more than the margin": (
        "Twin right and engine wrong on 40 of 256 images, the reverse on 1: gap 15.2 points, at least 11.7 with 95 % confidence, "
        "above the margin of 5."
    ),
    "lost, maybe more than the margin": (
        "Twin right and engine wrong on 14 of 256 images, the reverse on 3: gap 4.3 points, at least 1.8 and at most 7.3, each with 95 % "
        "confidence, margin 5: the engine has lost robustness, and perhaps more than the margin. About 8,412 images would decide."
    ),
    "the twin has no robustness": (
        "Under attack the twin itself is right on only 1 of 256 images, not clearly more than the margin of 5 points: it has too little "
        "robustness for a loss to show. Choose a smaller eps, a more robust model, or more images."
    ),
}


@pytest.mark.parametrize("name", REASONS)
def test_the_reason_in_words(name: str) -> None:
    counts, sources, _ = BRANCHES[name]
    assert judge(compare(*counts, sources=sources)).reason == REASONS[name]


def test_a_bound_is_never_rounded_onto_the_margin() -> None:
    """ "At most 5.0, margin 5" would read as no answer."""
    claim = judge(compare(100, 12, 7, 137))
    assert claim.upper is not None and 0.0499 < claim.upper < 0.05
    assert "gap 2.0 points, at most 4.99 with" in claim.reason


@pytest.mark.parametrize("name", ["too few images", "much flips both ways"])
def test_an_inconclusive_claim_says_how_many_images_would_decide(name: str) -> None:
    claim = judge(compare(*BRANCHES[name][0]))
    assert claim.n_required is not None
    assert claim.n_required > claim.n
    assert f"About {claim.n_required:,} images would decide." in claim.reason


@given(st.lists(st.integers(0, 100), min_size=4, max_size=4).filter(any), st.sampled_from([0.01, 0.02, 0.05]), st.integers(1, 4))
def test_images_that_would_decide_are_more_than_there_were(counts: list[int], margin: float, family: int) -> None:
    for claim in claims([compare(*counts), *[compare(100, 1, 1, 154)] * (family - 1)], [], margin):
        assert claim.n_required is None or claim.n_required > claim.n


def test_more_claims_need_more_images_to_be_signed_off_and_none_more_to_be_refuted() -> None:
    below, above = compare(70, 30, 28, 128), compare(100, 16, 2, 138)
    alone = [judge(one).n_required for one in (below, above)]
    together = [claim.n_required for claim in claims([below, above], [], 0.05)]
    assert None not in alone
    assert together[0] > alone[0]
    assert together[1] == alone[1]


@pytest.mark.parametrize("name", ["nothing lost", "lost more than the margin", "the twin has no robustness"])
def test_a_claim_that_more_images_would_not_change_asks_for_none(name: str) -> None:
    assert judge(compare(*BRANCHES[name][0])).n_required is None


def test_the_statement_names_engine_radius_and_margin() -> None:
    assert (
        judge(compare(100, 1, 1, 154), margin=0.02).statement == "ort-int8 keeps the twin's robust accuracy at eps 8/255 to within 2 points"
    )
    assert judge(compare(100, 1, 1, 154), margin=0.01).statement.endswith(" to within 1 point")


@pytest.mark.parametrize("margin", [0, 1, 5])
def test_a_margin_that_is_no_share_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match=r"0\.02 for two points"):
        judge(compare(1, 0, 0, 1), margin=margin)


# --- how often it errs: simulated runs, seed 0


RUNS = 4000
MONTE_CARLO = 3 * (0.05 * 0.95 / RUNS) ** 0.5  # three standard errors at 5 %: 1 point


@cache
def one_p(twin_only: int, engine_only: int, n: int, margin: float) -> float:
    return tango_p(twin_only, engine_only, n, margin)


def favourable_runs(tables: np.ndarray, margin: float) -> float:
    """Share of runs, int (runs, claims, 4), in which any claim may be signed off, by Holm as `claims` applies it."""
    n = int(tables[0, 0].sum())
    runs = ([one_p(int(b), int(c), n, margin) for _, b, c, _ in run] for run in tables)
    return float(np.mean([min(holm(p_values)) < 0.05 for p_values in runs]))


def cells(psi: float, gap: float) -> list[float]:
    """Shares of both right, twin only, engine only, both wrong."""
    return [0.4, (psi + gap) / 2, (psi - gap) / 2, 0.6 - psi]


@pytest.mark.parametrize(("n", "margin"), [(256, 0.05), (1000, 0.02)], ids=["quick", "bench"])
@pytest.mark.parametrize("psi", [0.06, 0.12, 0.2])
@pytest.mark.parametrize("number", [1, 2, 6])
def test_a_lost_margin_is_rarely_signed_off_however_many_claims(n: int, margin: float, psi: float, number: int) -> None:
    """Every claim's true gap is exactly the margin: any signature is unjust."""
    tables = np.random.default_rng(0).multinomial(n, cells(psi, margin), size=(RUNS, number))
    assert favourable_runs(tables, margin) <= 0.05 + MONTE_CARLO


@pytest.mark.parametrize("margin", [0.05, 0.02])
@pytest.mark.parametrize("number", [1, 2, 6])
def test_the_images_that_a_claim_asks_for_sign_it_off_four_times_in_five(margin: float, number: int) -> None:
    """No robustness is lost, and as many images as `n_required` states for Holm's first step; what is stated is a power of 80 %."""
    n = n_required(0.04, 0.0, margin, alpha=0.05 / number)
    assert n is not None
    tables = np.random.default_rng(0).multinomial(n, cells(0.04, 0.0), size=(RUNS, number))
    signed = [[p < 0.05 for p in holm([one_p(int(b), int(c), n, margin) for _, b, c, _ in run])] for run in tables]
    assert np.mean(signed) >= 0.8 - 3 * (0.2 * 0.8 / RUNS) ** 0.5
    assert np.mean(signed) <= 0.98, "far fewer images would do"


@pytest.mark.parametrize("others", [0.0, 0.02], ids=["one bad build", "all bad builds"])
@pytest.mark.parametrize("alike", [False, True], ids=["independent", "the same"])
def test_a_bad_build_among_several_is_rarely_signed_off(others: float, alike: bool) -> None:
    """Three builds of a flavour without any adjustment for their number; the first has lost the margin."""
    rng, runs, unjust = np.random.default_rng(0), 1000, 0
    for _ in range(runs):
        first = rng.multinomial(1000, cells(0.06, 0.02))
        rest = [first] * 2 if alike and others else [rng.multinomial(1000, cells(0.06, others)) for _ in range(2)]
        worst = max(one_p(int(b), int(c), 1000, 0.02) for _, b, c, _ in [first, *rest])
        unjust += worst < 0.05
    assert unjust / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5


# --- properties


VERDICTS = [Verdict.HOLDS, Verdict.NOT_REFUTED, Verdict.INCONCLUSIVE, Verdict.DEGRADED, Verdict.FAILS]  # better first
TABLES = st.lists(st.integers(0, 200), min_size=4, max_size=4).filter(any)
MARGINS = st.sampled_from([0.02, 0.05])
SOURCES_SEEN = st.sets(st.sampled_from(["S0", "S1", "S2", "S3", "S4", "S5"])).map(lambda names: frozenset({"S1", *names}))


def rank(claim: Claim) -> int:
    return VERDICTS.index(claim.verdict)


@given(TABLES, MARGINS, SOURCES_SEEN, st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter(counts: list[int], margin: float, sources: frozenset[str], random: Random) -> None:
    one = compare(*counts, sources=sources)
    order = list(range(len(one.twin_right)))
    random.shuffle(order)
    other = replace(one, twin_right=one.twin_right[order], engine_right=one.engine_right[order])
    assert judge(one, margin=margin) == judge(other, margin=margin)


@given(TABLES, MARGINS, SOURCES_SEEN, st.lists(TABLES, min_size=1, max_size=5))
def test_other_flavours_change_no_figure_and_can_only_withhold_a_signature(
    counts: list[int], margin: float, sources: frozenset[str], company: list[list[int]]
) -> None:
    """Holm's adjustment is all that claims have in common, and it stands on the side of the signature alone."""
    others = [compare(*table, engine=f"other-{place}", flavour=f"other-{place}") for place, table in enumerate(company)]
    own = compare(*counts, sources=sources, flavour="ort-int8")
    alone, beside = judge(own, margin=margin), claims([own, *others], [], margin)[0]
    shared = {"p_value", "verdict", "n_required", "reason"}
    assert alone.model_dump(exclude=shared) == beside.model_dump(exclude=shared)
    if alone.verdict in (Verdict.HOLDS, Verdict.NOT_REFUTED):
        assert beside.verdict in (alone.verdict, Verdict.INCONCLUSIVE, Verdict.DEGRADED)
    else:
        assert beside.verdict is alone.verdict
    assert alone.p_value is not None and beside.p_value is not None and beside.p_value >= alone.p_value


@given(TABLES, MARGINS, SOURCES_SEEN, st.booleans())
def test_one_more_image_that_the_engine_loses_never_helps_it(
    counts: list[int], margin: float, sources: frozenset[str], twin_right: bool
) -> None:
    both, twin_only, engine_only, neither = counts
    if (both if twin_right else engine_only) == 0:
        return
    worse = [both - 1, twin_only + 1, engine_only, neither] if twin_right else [both, twin_only, engine_only - 1, neither + 1]
    before, after = judge(compare(*counts, sources=sources), margin=margin), judge(compare(*worse, sources=sources), margin=margin)
    assert rank(after) >= rank(before)


@given(TABLES, MARGINS, SOURCES_SEEN, SOURCES_SEEN)
def test_the_same_figures_from_more_sources_are_never_worth_less(
    counts: list[int], margin: float, some: frozenset[str], more: frozenset[str]
) -> None:
    before, after = (judge(compare(*counts, sources=sources), margin=margin) for sources in (some, some | more))
    assert rank(after) <= rank(before)


@given(TABLES, MARGINS, SOURCES_SEEN, st.booleans())
def test_nothing_holds_by_transfer_alone_or_by_simulation(
    counts: list[int], margin: float, sources: frozenset[str], simulated: bool
) -> None:
    claim = judge(replace(compare(*counts, sources=sources), simulated=simulated), margin=margin)
    assert claim.verdict is not Verdict.HOLDS or ({"S1", "S3", "S4"} <= sources and not simulated)


def test_without_holm_it_would_be_signed_off_often() -> None:
    """That the simulation can fail: eight claims, each at its own 5 %, give an unjust signature in a third of the runs."""
    tables = np.random.default_rng(0).multinomial(1000, [0.4, 0.04, 0.02, 0.54], size=(RUNS, 8))
    unadjusted = np.mean([any(one_p(int(b), int(c), 1000, 0.02) < 0.05 for _, b, c, _ in run) for run in tables])
    assert unadjusted > 0.25


def test_the_whole_rule_on_simulated_images() -> None:
    """Images rather than counts, through `claims`: two engines of one twin, both exactly one margin worse, correlated."""
    rng = np.random.default_rng(0)
    signed = 0
    for _ in range(400):
        twin = rng.random(400) < 0.5
        lost = rng.random(400)  # shared: what breaks one engine tends to break the other
        comparisons = [
            Comparison(name, "8/255", twin, twin & ~((lost < 0.08) | (rng.random(400) < 0.0217)), ADAPTIVE) for name in ("a", "b")
        ]
        signed += any(claim.verdict is Verdict.HOLDS for claim in claims(comparisons, [], 0.05))
    assert signed / 400 <= 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5
    assert signed > 0
