"""Each gate with a sound input and with a planted fault."""

from collections.abc import Callable

import numpy as np
import pytest

from harness.audit import gates
from harness.audit.gates import GATES, guards, not_tested, untested
from harness.audit.statistics import share
from harness.records import Gate, Mismatch, Parity, PrecisionEvidence

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 10, 1000)
LOGITS = RNG.normal(size=(64, 10)).astype(np.float32)
IMAGES = RNG.integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)


def wrong_on(count: int, start: int = 0) -> np.ndarray:
    """Predictions right everywhere but on `count` images."""
    predictions = LABELS.copy()
    predictions[start : start + count] = (predictions[start : start + count] + 1) % 10
    return predictions


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def parity(passed: bool) -> Parity:
    return Parity(n=64, max_logit_error=0.1, top1_agreement=1.0 if passed else 0.8, passed=passed, limit="top-1 >= 97 %")


def wrong_mode() -> Mismatch:
    return Mismatch(engine="e", what="power mode", declared="MAXN", observed="MODE_15W", remedy="Run there: sudo nvpmodel -m 0")


def evidence(label: str, share: float | None) -> PrecisionEvidence:
    return PrecisionEvidence(claimed="int8", label=label, integer_mac_share=share, kernels={}, note="")


def falling(by: float) -> np.ndarray:
    """The margins of 64 images under 30 steps, from 3 down by 0.1 at each of 20 steps, then by so much."""
    return np.tile(np.concatenate([3 - 0.1 * np.arange(21), 1 - by * np.arange(1, 11)])[:, None], (1, 64))


right = np.ones(100, dtype=bool)
MARGINS = np.linspace(-0.3, 0.7, 101)[1:]

SOUND_AND_FAULTY: dict[str, tuple[Callable[[], Gate], Callable[[], Gate], str]] = {
    "artefact parity": (
        lambda: gates.artefact_parity("e", parity(True)),
        lambda: gates.artefact_parity("e", parity(False)),
        "same label on 80.0%",
    ),
    "logits": (
        lambda: gates.logits_not_probabilities(LOGITS),
        lambda: gates.logits_not_probabilities(softmax(LOGITS)),
        "rows sum to 1 … 1",
    ),
    "clean accuracy": (
        lambda: gates.clean_accuracy(LABELS, wrong_on(700), 10),
        lambda: gates.clean_accuracy(LABELS, (LABELS + 1) % 10, 10, cause="the labels seem to be one too high: then all would be right"),
        "0.0% of 1000 images right; one class named for all would have 11.7%; the labels seem to be one too high: then",
    ),
    "clean parity": (
        lambda: gates.clean_parity("e", LABELS, wrong_on(100), wrong_on(101)),
        lambda: gates.clean_parity("e", LABELS, wrong_on(100), wrong_on(120)),
        "twin 90.0%, engine 88.0% of 1000, 97.8% of the twin",
    ),
    "determinism": (
        lambda: gates.determinism("e", 3, True),
        lambda: gates.determinism("e", 3, False),
        "3 runs gave different bits",
    ),
    "calibration disjoint": (
        lambda: gates.calibration_disjoint(IMAGES[:10], IMAGES[10:]),
        lambda: gates.calibration_disjoint(IMAGES[:11], IMAGES[10:]),
        "1 of 10 test images",
    ),
    "distinct images": (
        lambda: gates.distinct_images(IMAGES, np.arange(len(IMAGES)) % 3),
        lambda: gates.distinct_images(np.concatenate([IMAGES, IMAGES[:8]]), np.arange(28) // 27),
        "8 of 28 test images are copies, 1 of them with another label",
    ),
    "large radius": (
        lambda: gates.large_radius(np.arange(100) < 5),
        lambda: gates.large_radius(np.arange(100) < 11),
        "11.0% of 100 attacked images stay right",
    ),
    "zero gradient": (
        lambda: gates.zero_gradient([("pgd 8/255", 0, 40), ("apgd-ce 8/255", 2, 40)]),
        lambda: gates.zero_gradient([("pgd 8/255", 16, 40), ("apgd-ce 8/255", 0, 40)]),
        "at most 40.0% of 40 attacked images (pgd 8/255)",
    ),
    "noise floor": (
        lambda: gates.noise_floor(np.stack([MARGINS, MARGINS + 0.5]), MARGINS - 1, "pgd"),
        lambda: gates.noise_floor(MARGINS[None], MARGINS + 0.1, "pgd"),  # an attack that moves nothing
        "all 1 draws leave 70, of which pgd wins 0",
    ),
    "rounding": (
        lambda: gates.rounding([("S1 pgd", 0, 0), ("S1 cw-l2", 2, 100)]),
        lambda: gates.rounding([("S1 pgd", 1, 100), ("S1 cw-l2", 25, 31)]),
        "at most 80.6% of 31 attacked images (S1 cw-l2)",
    ),
    "DLR classes": (
        lambda: gates.dlr_classes(3, ["apgd-dlr"]),
        lambda: gates.dlr_classes(3, ["apgd-dlr"], ["apgd-t"]),
        "3 classes; apgd-t needs 4",
    ),
    "query attack": (
        lambda: gates.query_attack(np.arange(100) < 50, np.arange(100) < 49),
        lambda: gates.query_attack(np.arange(100) < 50, np.arange(100) < 42),
        "50.0% of 100 images right under the white-box attacks, 42.0% under the query attack",
    ),
    "twin fidelity": (
        lambda: gates.twin_fidelity("e", LABELS, wrong_on(10), LABELS, wrong_on(30)),
        lambda: gates.twin_fidelity("e", LABELS, wrong_on(10), LABELS, wrong_on(45)),
        "99.0% of 1000 clean and 95.5% of 1000 adversarial",
    ),
    "saturation": (
        lambda: gates.saturation("e", LOGITS, LOGITS + np.float32(1e-4)),
        lambda: gates.saturation("e", LOGITS, np.where(np.arange(64)[:, None] < 3, -LOGITS, LOGITS)),
        "other logits on 3 of 64 images, at most ",
    ),
    "precision evidence": (
        lambda: gates.precision_evidence("e", evidence("int8", 0.99)),
        lambda: gates.precision_evidence("e", evidence("mixed int8/fp32", 0.45)),
        "claimed int8, label mixed int8/fp32; 45% of the MACs",
    ),
    "timed outputs": (
        lambda: gates.timed_outputs("e", True, 1e-6),
        lambda: gates.timed_outputs("e", False, 2.5),
        "logits at most 2.5 apart",
    ),
    "device state": (
        lambda: gates.device_state("e", []),
        lambda: gates.device_state("e", [wrong_mode()]),
        "power mode: declared MAXN, observed MODE_15W. Run there: sudo nvpmodel -m 0",
    ),
    "conditions": (
        lambda: gates.conditions("e", {"1": [], "8": []}, {}),
        lambda: gates.conditions("e", {"1": [], "8": ["the hardware throttled itself (oc1: 2 events): cool it"]}, {"1": ["temperature"]}),
        "batch 8: the hardware throttled itself (oc1: 2 events): cool it; not checked: temperature",
    ),
    "repeated inputs": (
        lambda: gates.repeated_inputs("e", 0.95),
        lambda: gates.repeated_inputs("e", 0.1),
        "takes 0.10 of the time of fresh ones",
    ),
    "engine parity": (
        lambda: gates.engine_parity("e", LABELS, wrong_on(100), LABELS, wrong_on(200)),
        lambda: gates.engine_parity("e", LABELS, wrong_on(100), LABELS, wrong_on(250)),
        "same label as the twin on 90.0% of 1000 clean and 75.0% of 1000 adversarial images",
    ),
    "file fidelity": (
        lambda: gates.file_fidelity("e", LOGITS, LOGITS + np.float32(1e-4), LOGITS),
        lambda: gates.file_fidelity("e", LOGITS, LOGITS + np.float32(0.1), LOGITS),
        "other logits on 64 of 64 images, at most 0.1 apart; another label on 0",
    ),
    "fresh answers": (
        lambda: gates.fresh_answers("e", LOGITS, {7: LOGITS + np.float32(0.01)}),
        lambda: gates.fresh_answers("e", LOGITS, {7: LOGITS, 1: np.roll(LOGITS, 1, axis=0)}),
        "other answers to 64 of 64 images",
    ),
    "engine gain": (
        lambda: gates.engine_gain("e", np.arange(100) < 50, np.arange(100) < 58),
        lambda: gates.engine_gain("e", np.arange(100) < 50, np.arange(100) < 80),
        "twin 50.0%, engine 80.0% of 100 images right",
    ),
    "calibration images": (
        lambda: gates.calibration_images(1.0, {"brightness": 0.1, "contrast": 0.2}, 100),
        lambda: gates.calibration_images(1.0, {"brightness": 0.1, "contrast": 0.8}, 100),
        "the largest distance is 0.80 (contrast)",
    ),
    "own clock": (
        lambda: gates.own_clock("e", 0.95),
        lambda: gates.own_clock("e", 0.5),
        "it reports 0.50 of the time that a call takes here",
    ),
    "steady latency": (
        lambda: gates.steady_latency("e", {1: [1.0, 1.1, 1.0], 8: [5.0, 5.0, 5.5]}),
        lambda: gates.steady_latency("e", {1: [1.0, 1.1, 1.0], 8: [5.0, 5.0, 7.5]}),
        "batch 8: the last rounds take 1.50 of the time of the first",
    ),
    "rising loss": (
        lambda: gates.rising_loss("pgd", 30, falling(0.01)),
        lambda: gates.rising_loss("pgd", 30, falling(0.09)),
        "pgd: the margin of 64 of 64 images still falls",
    ),
    "increasing loss": (
        lambda: gates.increasing_loss("pgd", falling(0.01)),
        lambda: gates.increasing_loss("pgd", falling(0.01)[::-1]),
        "pgd: the margin of 64 of 64 images has not fallen",
    ),
    "silent success": (
        lambda: gates.silent_success("pgd", np.arange(64) < 3),
        lambda: gates.silent_success("pgd", np.arange(64) < 30),
        "pgd: 30 of 64 images",
    ),
    "zero gradient along the path": (
        lambda: gates.zero_gradient_along("pgd", np.arange(64) < 3),
        lambda: gates.zero_gradient_along("pgd", np.arange(64) < 30),
        "pgd: 30 of 64 images",
    ),
    "rebuild spread": (
        lambda: gates.rebuild_spread("e", LABELS, wrong_on(9)),
        lambda: gates.rebuild_spread("e", LABELS, wrong_on(30)),
        "another label than the first build's on 30 of 1000 images",
    ),
}


def test_every_gate_that_can_be_tested_has_a_row_here() -> None:
    assert SOUND_AND_FAULTY.keys() == GATES.keys()


@pytest.mark.parametrize("name", SOUND_AND_FAULTY)
def test_the_gate_passes_what_is_sound_and_fails_the_planted_fault(name: str) -> None:
    sound, faulty, says = SOUND_AND_FAULTY[name]
    passed, failed = sound(), faulty()
    assert (passed.name, passed.passed) == (name, True)
    assert (failed.name, failed.passed) == (name, False)
    assert says in failed.observed
    assert (failed.limit, failed.remedy) == (GATES[name].limit, GATES[name].remedy)
    assert failed.engine in (None, "e")


SHUT_OUT = np.where(np.arange(LOGITS.shape[1]) == 1, -1e9, 0).astype(np.float32)


@pytest.mark.parametrize(
    "gate",
    [
        lambda known, found: gates.file_fidelity("e", known, found, known),
        lambda known, found: gates.fresh_answers("e", known, {7: found}),
        lambda known, found: gates.saturation("e", known, found),
    ],
    ids=["file fidelity", "fresh answers", "saturation"],
)
def test_a_class_that_is_shut_out_hides_no_other_answer(gate: Callable[..., Gate]) -> None:
    """A class far below all others is no measure of an error: any wrong file passed, and any answer of an engine opened anew."""
    known = LOGITS + SHUT_OUT
    assert gate(known, known + np.float32(1e-4)).passed
    assert gate(known, known + np.float32(0.3) * LOGITS).passed is False


def test_an_engine_that_keeps_what_the_attacks_take_from_the_twin_was_not_attacked() -> None:
    """It agrees with the twin on nearly all, as one does that computes another network on a fifth of the inputs."""
    alike = (LABELS, LABELS, LABELS, wrong_on(70))
    for kept, passed in ((0, True), (3, True), (6, None), (9, False)):
        gate = gates.engine_parity("e", *alike, kept=np.arange(113) < kept)
        assert gate.passed is passed
        assert f"; it keeps {kept} of 113 that the attacks take from the twin" in gate.observed
    assert gates.engine_parity("e", *alike, kept=np.zeros(0, np.bool_)).passed
    assert gates.engine_parity("e", LABELS, wrong_on(300), LABELS, LABELS, kept=np.zeros(9, np.bool_)).passed is False


def test_an_engine_that_computes_the_network_on_the_test_images_alone_is_seen() -> None:
    alike = (LABELS, LABELS, LABELS, LABELS)
    for wrong, passed in ((0, True), (20, True), (24, None), (40, False)):
        moved = (LABELS[:100], wrong_on(wrong)[:100])
        gate = gates.engine_parity("e", *alike, moved=moved)
        assert gate.passed is passed
        assert f"; same label on {1 - wrong / 100:.1%} of 100 that were mirrored and moved" in gate.observed
    assert gates.engine_parity("e", LABELS, wrong_on(300), LABELS, LABELS, moved=(LABELS, LABELS)).passed is False
    assert gates.engine_parity("e", *alike, moved=(LABELS[:0], LABELS[:0])).passed


def test_scores_are_no_labels_for_a_class_that_is_shut_out() -> None:
    """Log-probabilities whose zeros are the lowest number there is: the leads of all images were taken for one, within its rounding."""
    low = LOGITS + np.where(np.arange(LOGITS.shape[1]) == 1, np.finfo(np.float32).min, 0).astype(np.float32)
    assert gates.logits_not_probabilities(low, "e", LOGITS).passed
    assert gates.logits_not_probabilities(np.where(LOGITS.max(1, keepdims=True) == LOGITS, 10, SHUT_OUT.min()), "e", LOGITS).passed is False


def test_clean_parity_is_undecided_where_the_images_are_too_few() -> None:
    few = slice(0, 100)
    gate = gates.clean_parity("e", LABELS[few], LABELS[few], LABELS[few])
    assert gate.passed is None
    assert "undecided, about" in gate.observed


def test_clean_parity_is_undecided_where_chance_may_have_made_the_gap() -> None:
    """One image of 64 is a gap of 1.6 points, above the margin, and no evidence of a loss."""
    gate = gates.clean_parity("e", LABELS[FEW], LABELS[FEW], wrong_on(1)[FEW])
    assert gate.passed is None
    assert "gap 1.56 points" in gate.observed and "undecided, about" in gate.observed


def test_clean_parity_is_undecided_where_a_sure_loss_may_be_smaller_than_the_margin() -> None:
    """A gap of 0.9 points, surely above 0, perhaps above 1."""
    gate = gates.clean_parity("e", LABELS, LABELS, wrong_on(9))
    assert gate.passed is None


def test_clean_parity_with_a_gap_of_exactly_the_margin_promises_no_number_of_images() -> None:
    few = slice(0, 100)
    gate = gates.clean_parity("e", LABELS[few], LABELS[few], wrong_on(1)[few])
    assert gate.passed is None
    assert gate.observed.endswith(": undecided")


def test_clean_parity_says_how_many_images_would_decide() -> None:
    """100 images at which the two agree; by the rule of three the discordance may be 3 %: (1.645 + 0.842)^2 * 0.03 / 0.01^2."""
    few = slice(0, 100)
    assert "about 1,971 images" in gates.clean_parity("e", LABELS[few], LABELS[few], LABELS[few]).observed


def test_clean_parity_forgives_an_engine_that_is_better() -> None:
    assert gates.clean_parity("e", LABELS, wrong_on(100), wrong_on(80)).passed


def test_clean_parity_fails_where_one_of_many_classes_is_lost() -> None:
    """200 classes of 8 images each; the engine never names class 3, or has 7 and 9 in each other's place: half a point, and one."""
    labels = np.arange(1600) % 200
    for changed, words in (
        ({3: 4}, "; of the images that the twin has right, the engine loses 8 of 8 of class 3"),
        ({7: 9, 9: 7}, "the engine loses 8 of 8 of class 7, 8 of 8 of class 9"),
        ({one: one + 1 for one in range(5)}, "loses 8 of 8 of class 0, 8 of 8 of class 1, 8 of 8 of class 2 and most of 2 other classes"),
    ):
        named = np.array([changed.get(one, one) for one in labels.tolist()])
        gate = gates.clean_parity("e", labels, labels, named)
        assert gate.passed is False
        assert gate.observed.endswith(words)


def test_clean_parity_takes_no_class_for_lost_of_which_chance_may_have_taken_some() -> None:
    labels = np.arange(1600) % 200
    few, half = labels.copy(), labels.copy()
    few[np.flatnonzero(labels == 3)[:3]] = half[np.flatnonzero(labels == 3)[:6]] = 0
    assert gates.clean_parity("e", labels, labels, few).passed
    assert gates.clean_parity("e", labels, labels, half).passed
    rare = np.where(np.arange(1600) < 3, 200, labels)
    assert gates.clean_parity("e", rare, rare, labels).passed, "three images of a class tell nothing of it"


def test_clean_parity_of_a_twin_that_has_nothing_right() -> None:
    assert "of the twin" not in gates.clean_parity("e", LABELS, wrong_on(1000), wrong_on(1000)).observed


FEW = slice(0, 64)
UNDECIDED = {
    "rounding": lambda: gates.rounding([("S1 pgd", 1, 16)]),
    "zero gradient": lambda: gates.zero_gradient([("S1 pgd", 1, 16)]),
    "zero gradient of the one image left": lambda: gates.zero_gradient([("S3 pgd", 1, 1)], "e"),
    "zero gradient of three images left": lambda: gates.zero_gradient([("S3 pgd", 1, 3)], "e"),
    "twin fidelity on two images left": lambda: gates.twin_fidelity("e", LABELS, LABELS, LABELS[:2], wrong_on(1)[:2]),
    "twin fidelity on seventeen images": lambda: gates.twin_fidelity("e", LABELS[:17], wrong_on(1)[:17], LABELS[:0], LABELS[:0]),
    "large radius": lambda: gates.large_radius(np.arange(100) < 6),
    "query attack": lambda: gates.query_attack(np.arange(100) < 50, np.arange(100) < 48),
    "twin fidelity": lambda: gates.twin_fidelity("e", LABELS[FEW], wrong_on(1)[FEW], LABELS[FEW], LABELS[FEW]),
    "clean parity": lambda: gates.clean_parity("e", LABELS[FEW], LABELS[FEW], wrong_on(1)[FEW]),
    "clean accuracy": lambda: gates.clean_accuracy(np.arange(6), np.array([0, 1, 3, 4, 5, 0]), 6),
    "a robust network": lambda: gates.noise_floor(np.full((2, 64), 3.0), np.full(64, 1.0), "pgd"),
    "few images left": lambda: gates.noise_floor(np.full((2, 2), 3.0), np.full(2, 3.0), "pgd"),
    "four images left": lambda: gates.noise_floor(np.full((2, 4), 3.0), np.full(4, 3.0), "pgd"),
    "no image left": lambda: gates.noise_floor(np.full((2, 64), -1.0), np.full(64, -2.0), "pgd"),
}


@pytest.mark.parametrize("name", UNDECIDED)
def test_what_chance_may_have_made_decides_nothing(name: str) -> None:
    """A share above its limit by one image, an interval that holds it, an attack that was left nothing to win."""
    gate = UNDECIDED[name]()
    assert gate.passed is None
    assert "undecided" in gate.observed


def test_what_chance_does_not_make_of_few_images_fails() -> None:
    """Two of three: of images of which 5 % start from no gradient, chance makes as many in one of 138 threes."""
    assert gates.zero_gradient([("S3 pgd", 2, 3)], "e").passed is False
    assert gates.zero_gradient([("S3 pgd", 20, 256)], "e").passed is False


@pytest.mark.parametrize(
    ("labels", "n_right", "passed"),
    [
        (np.arange(40) % 2, 20, False),  # two classes, at chance
        (np.arange(40) % 2, 38, True),
        (np.zeros(40, dtype=int), 40, True),  # a folder of one class
        (np.zeros(40, dtype=int), 4, False),
        (np.arange(1000) % 1000, 0, False),
    ],
)
def test_clean_accuracy_is_judged_against_the_most_frequent_class(labels: np.ndarray, n_right: int, passed: bool | None) -> None:
    labels = labels.astype(np.int64)
    predictions = np.where(np.arange(len(labels)) < n_right, labels, (labels + 1) % 10)
    assert gates.clean_accuracy(labels, predictions, 10).passed is passed


@pytest.mark.parametrize(
    ("saturates", "another_file", "blamed"),
    [
        (True, False, ["clean parity", "twin fidelity"]),
        (True, True, ["twin fidelity"]),  # exact integers answer otherwise than the twin too
        (False, False, []),
    ],
)
def test_differences_that_saturation_makes_have_its_remedy(saturates: bool, another_file: bool, blamed: list[str]) -> None:
    """What depends on the export alone keeps its own."""
    sound, faulty, _ = SOUND_AND_FAULTY["saturation"]
    parity = SOUND_AND_FAULTY["artefact parity"][another_file]()
    found = gates.blame_saturation(
        [parity, *(SOUND_AND_FAULTY[name][1]() for name in ("clean parity", "twin fidelity")), faulty() if saturates else sound()]
    )
    assert [gate.name for gate in found if "ort-int8-precise" in gate.remedy and gate.name != "saturation"] == blamed
    assert [gate.passed for gate in found] == [not another_file, False, False, not saturates]


@pytest.mark.parametrize(
    ("predictions", "passed"),
    [
        (np.repeat([0, 1], [180, 20]), True),  # 95 % are of one class, as many are right, and all of the other class among them
        (np.zeros(200, dtype=np.int64), False),  # as many are right of a network that sees nothing
        (np.arange(200) % 20 == 0, False),  # and of one that draws by lot
        (np.repeat([1, 0], [190, 10]), False),  # each called the other
    ],
)
def test_a_network_that_sees_the_rarer_class_is_better_than_chance(predictions: np.ndarray, passed: bool) -> None:
    labels = np.repeat([0, 1], [190, 10])
    gate = gates.clean_accuracy(labels, predictions.astype(np.int64), 2)
    assert gate.passed is passed
    assert ("as many guesses of each class 86.0%" in gate.observed) is passed


def test_clean_accuracy_of_few_unequal_images_is_undecided() -> None:
    assert gates.clean_accuracy(np.repeat([0, 1], [38, 2]), np.zeros(40, dtype=np.int64), 2).passed is None


def test_clean_accuracy_is_held_against_the_card() -> None:
    """54.6 % of images of which the card has 87.7 % is far above chance, and not this network."""
    assert gates.clean_accuracy(LABELS, wrong_on(454), 10, share(877, 1000)).passed is False
    assert gates.clean_accuracy(LABELS, wrong_on(123), 10, share(877, 1000)).passed is True
    assert gates.clean_accuracy(LABELS[FEW], wrong_on(8)[FEW], 10, share(900, 1000)).passed is True


def test_twin_fidelity_without_an_adversarial_image_rests_on_the_clean_ones() -> None:
    """Where every image is fooled before the STE twin's turn, its sets are empty."""
    none = LABELS[:0]
    gate = gates.twin_fidelity("e", LABELS, LABELS, none, none)
    assert gate.passed is True and "no adversarial" in gate.observed
    assert gates.twin_fidelity("e", LABELS, (LABELS + 1) % 10, none, none).passed is False


def test_a_network_may_be_robust_at_the_large_radius_where_gradients_lead_and_a_larger_one_breaks_it() -> None:
    kept, nearly = np.ones(100, bool), np.arange(100) < 95
    gate = gates.large_radius(kept, nearly, nearly[-40:])
    assert gate.passed is False, "35 of 40"
    gate = gates.large_radius(kept, nearly, nearly[:40])
    assert gate.passed is None and "of 95 of these by more than 1.5 times what noise does, and wins 40 of 40" in gate.observed
    assert gates.large_radius(kept, nearly[::-1] & nearly, nearly[:40]).passed is False, "90 of 100"
    assert gates.large_radius(kept).passed is False
    few = np.arange(16) > 0
    assert gates.large_radius(np.arange(64) < 16, few, kept[:16]).passed is None, "15 of 16: by chance, of one in twenty"
    assert gates.large_radius(np.arange(64) < 16, np.arange(16) > 3, few).passed is False, "12 of 16 are beyond chance"
    assert gates.large_radius(np.arange(100) < 3, ~kept[:3], ~kept[:3]).passed is True, "few are left: nothing to excuse"


def test_a_large_radius_without_an_image_to_attack_says_nothing() -> None:
    assert gates.large_radius(np.zeros(0, dtype=bool)).passed is None


def test_of_images_of_one_class_it_is_not_said_that_naming_it_would_have_few_right() -> None:
    gate = gates.clean_accuracy(np.zeros(40, int), np.zeros(40, int), 4)
    assert gate.observed == "100.0% of 40 images right; all are of one class, and a class drawn by chance would have 25.0%"


def test_two_classes_pass_because_a_margin_loss_took_the_place_of_dlr() -> None:
    """As with the default attacks, on the twin and again on the STE twin."""
    gate = gates.dlr_classes(2, ["apgd-dlr", "apgd-dlr"])
    assert gate.passed
    assert gate.observed == "2 classes: a margin loss took the place of DLR in apgd-dlr"


def test_a_clock_that_counts_more_than_passes_is_no_clock() -> None:
    """Such as one of picoseconds: its engine would be called a thousand times slower than it is."""
    assert [gates.own_clock("e", share).passed for share in (1.3, 1.5, 1000.0)] == [True, False, False]


def test_log_probabilities_are_logits() -> None:
    assert gates.logits_not_probabilities(np.log(softmax(LOGITS))).passed


CENTRED = LOGITS - LOGITS.mean(axis=1, keepdims=True)


@pytest.mark.parametrize(
    "logits",
    [
        CENTRED + np.float32(0.1),
        CENTRED + np.float32(1000),
        CENTRED[:, :2] - CENTRED[:, :2].mean(axis=1, keepdims=True) + np.float32(100),
        np.maximum(LOGITS, 0),
        0.5 + CENTRED / np.float32(2.1 * np.abs(CENTRED).max()),
        np.zeros_like(LOGITS),
        np.float32(39.95) * np.eye(10, dtype=np.float32)[LOGITS.argmax(1)],
    ],
    ids=[
        "sum to one",
        "sum to a constant",
        "two classes that do",
        "a ReLU at the end",
        "all in [0, 1], as a cosine",
        "all alike",
        "one class has all, in no unit of a probability",
    ],
)
def test_what_looks_like_probabilities_in_one_way_alone_are_logits(logits: np.ndarray) -> None:
    assert gates.logits_not_probabilities(logits).passed


@pytest.mark.parametrize(
    "logits",
    [
        100 * softmax(LOGITS),
        np.round(255 * softmax(5 * LOGITS)),
        np.round(1000 * softmax(5 * LOGITS)),
        np.floor(65536 * softmax(5 * LOGITS)),
        np.round(softmax(5 * LOGITS), 2),
        100 * np.eye(10)[LOGITS.argmax(1)],
        1 / (1 + np.exp(-20 * LOGITS)),
    ],
    ids=["percent", "bytes", "per mille", "16 bits", "rounded", "one class has all", "a sigmoid for each class"],
)
def test_probabilities_in_another_unit_or_rounded_are_no_logits(logits: np.ndarray) -> None:
    assert gates.logits_not_probabilities(logits.astype(np.float32)).passed is False


@pytest.mark.parametrize(
    "gate",
    [
        gates.determinism("e", 1, True),
        gates.zero_gradient([]),
        gates.dlr_classes(2, []),
        gates.rounding([("S1 pgd", 0, 0)]),
        gates.precision_evidence("e", None),
        gates.device_state("e", [], read=False),
        gates.conditions("e", {}, {}),
        not_tested("query attack", "tier quick runs none"),
    ],
)
def test_what_was_not_tested_says_why(gate: Gate) -> None:
    assert gate.passed is None
    assert gate.observed.startswith("not tested: ")
    assert gate.limit and gate.remedy


def test_untested_completes_the_table() -> None:
    run = [gates.large_radius(right), gates.zero_gradient([])]
    rest = untested(run, "tier quick does not run it")
    assert {gate.name for gate in [*run, *rest]} == set(GATES)
    assert all(gate.passed is None for gate in rest)
    observed = {gate.name: gate.observed for gate in rest}
    assert observed["query attack"] == "not tested: tier quick does not run it"
    assert "large radius" not in {gate.name for gate in rest}


def test_labels_and_timing_do_not_touch_the_robustness_verdict_and_unknown_gates_do() -> None:
    unguarded = {name for name in GATES if not guards(not_tested(name, "-"))}
    assert unguarded == {
        "conditions", "rounding", "saturation", "precision evidence", "timed outputs", "repeated inputs",
        "rebuild spread", "calibration images", "own clock", "steady latency",
    }  # fmt: skip
    assert guards(Gate(name="new", engine=None, passed=False, observed="", limit="", remedy=""))


def test_an_attack_that_wins_less_than_one_draw_of_noise_fails_though_it_wins_other_images() -> None:
    """Each draw wins 20 images; the attack wins 5, none of which noise wins: it is the weaker of the two."""
    draws = np.ones((3, 100))
    draws[:, :20] = -1
    attack = np.ones(100)
    attack[-5:] = -1
    gate = gates.noise_floor(draws, attack, "pgd")
    assert gate.passed is False
    assert "one draw leaves 80 to 80 of 100 attacked images right (80.0 on average), pgd 95" in gate.observed
    attack[-25:] = -1
    assert gates.noise_floor(draws, attack, "pgd").passed is True


def test_where_nothing_was_timed_its_gates_were_not_tested_which_is_not_undecided() -> None:
    for gate in (gates.timed_outputs("e", None, None), gates.repeated_inputs("e", None)):
        assert gate.passed is None and gate.observed == "not tested: nothing was timed"
    assert gates.timed_outputs("e", None, None, own_clock=True).observed == "not tested: calls on a clock of its own give no answers"


def test_other_answers_to_requests_of_one_size_alone_fail_and_the_size_is_named() -> None:
    before = np.eye(4, dtype=np.float32)[np.arange(100) % 4]
    wrong = before.copy()
    wrong[:4] = np.roll(wrong[:4], 1, axis=1)
    gate = gates.fresh_answers("e", before, {7: before, 1: wrong, 8: before})
    assert gate.passed is False, "4 of 100 images, not 4 of 300 answers"
    assert gate.observed.startswith("other answers to 4 of 100 images (another label on 4)")
    assert gate.observed.endswith("in requests of 1 alone, not of 7, 8")
    assert gates.fresh_answers("e", before, {7: before, 1: before}).passed is True


def test_a_file_of_the_users_own_is_not_told_to_calibrate_another_way_with_this_program() -> None:
    exported, own = (gates.artefact_parity("e", parity(False), given=given) for given in (False, True))
    assert "--calibration" in exported.remedy and "--calibration" not in own.remedy
    assert (own.passed, own.observed, own.limit) == (exported.passed, exported.observed, exported.limit)


@pytest.mark.parametrize("gate", [gates.zero_gradient, gates.rounding])
def test_a_larger_share_of_few_images_hides_no_set_that_fails(gate: Callable[[list[gates.Counted]], Gate]) -> None:
    few, many = ("S1 apgd-dlr", 1, 12), ("S1 pgd", 20, 256)
    assert gate([few]).passed is None
    found = gate([few, many])
    assert found.passed is False
    assert "7.8% of 256 attacked images (S1 pgd)" in found.observed


@pytest.mark.parametrize(("factor", "offset"), [(1, 0), (1e-3, 0), (1, 1000)])
def test_errors_of_logits_are_held_against_what_tells_them_apart(factor: float, offset: float) -> None:
    """Neither what is added to every logit of a network nor how small they are hides an error, or makes one of rounding."""
    told, rounded, wrong = (np.float32(factor * logits + offset) for logits in (LOGITS, LOGITS * (1 + 1e-7), LOGITS * 0.9))
    for found, passed in ((rounded, True), (wrong, False)):
        assert gates.file_fidelity("e", told, found, told).passed is passed
        assert gates.fresh_answers("e", told, {7: found}).passed is passed
        assert gates.saturation("e", told, found).passed is passed


def test_scores_that_tell_no_more_than_a_label_are_no_logits_where_the_twins_tell_more() -> None:
    """Labels as 10 and -10, and a softmax of sure answers that was shifted, so that its rows do not sum to 1."""
    powers = np.exp(100 * (LOGITS - LOGITS.max(axis=1, keepdims=True)))
    shares = powers / powers.sum(axis=1, keepdims=True)
    for scores in (np.where(np.eye(10)[LOGITS.argmax(1)], 10.0, -10.0), shares - 0.5):
        assert gates.logits_not_probabilities(scores, "e").passed is True  # by its own figures alone it might be a network's
        gate = gates.logits_not_probabilities(scores, "e", LOGITS)
        assert gate.passed is False and "the top class leads by the same on" in gate.observed
        assert gates.logits_not_probabilities(scores, "e", scores).passed is True
    assert gates.logits_not_probabilities(LOGITS.round(1), "e", LOGITS).passed is True


def test_scores_whose_leads_have_nothing_to_do_with_the_twins_are_another_networks() -> None:
    """In the order of the twin's, so that every class has its place, and drawn at random: an attack that follows them is led astray."""

    def gate(clean: np.ndarray, attacked: np.ndarray, n: int = len(LOGITS)) -> Gate:
        scores = {"clean": (LOGITS[:n], clean[:n]), "attacked": (LOGITS[:n], attacked[:n]), "no": (LOGITS[:0], LOGITS[:0])}
        return gates.engine_parity("e", LABELS, LABELS, LABELS, LABELS, scores=scores)

    order = LOGITS.argsort(axis=1)
    drawn = np.zeros_like(LOGITS)
    np.put_along_axis(drawn, order, np.sort(RNG.normal(size=LOGITS.shape), axis=1).astype(np.float32), axis=1)
    for kind, found in (("clean", gate(drawn, LOGITS)), ("attacked", gate(LOGITS, drawn))):
        assert found.passed is False and f"on {kind} images its leads go with" in found.observed
    lead = np.diff(np.sort(LOGITS, axis=1)[:, -2:], axis=1)
    for sound in (LOGITS / (0.2 + lead), 1e-3 * LOGITS, LOGITS + 1e4 * LOGITS[:, :1], LOGITS + RNG.normal(0, 0.2, LOGITS.shape)):
        assert gate(sound.astype(np.float32), sound.astype(np.float32)).passed
    assert gate(drawn, drawn, 9).passed, "of so few chance may make anything"


def test_an_engine_that_has_the_classes_in_another_order_computes_another_network() -> None:
    """It names the twin's class, and that leads as the twin's does: the others are in another order, on all images or an eighth."""

    def gate(clean: np.ndarray) -> Gate:
        scores = {"clean": (LOGITS, clean.astype(np.float32)), "no": (LOGITS[:0], LOGITS[:0])}
        return gates.engine_parity("e", LABELS, LABELS, LABELS, LABELS, scores=scores)

    place = LOGITS.argsort(axis=1)
    turned = np.empty_like(LOGITS)  # the lowest becomes the third: the first two stay
    np.put_along_axis(turned, np.concatenate([place[:, :-2][:, ::-1], place[:, -2:]], axis=1), np.sort(LOGITS, axis=1), axis=1)
    eighth, two = (np.where(np.arange(len(LOGITS))[:, None] % every == 0, turned, LOGITS) for every in (8, 32))
    for wrong, count in ((turned, len(LOGITS)), (eighth, len(LOGITS) // 8)):
        found = gate(wrong)
        said = f"on {count} of {len(LOGITS)} clean images its other classes are in another order"
        assert found.passed is False and said in found.observed
        assert "its leads" not in found.observed
    named, third = np.eye(10)[LOGITS.argmax(1)], np.sort(LOGITS, axis=1)[:, -3:-2]
    saturated, three = np.tanh(LOGITS / 8), np.maximum(LOGITS, third)
    for sound in (saturated, three, named, LOGITS.round(), LOGITS + 1e4 * named[:, :1], LOGITS + RNG.normal(0, 0.2, LOGITS.shape)):
        assert "in another order" not in gate(sound).observed
    assert gate(two).passed, "of so few chance may make as many"
