"""Metrics on small sets written out by hand, and the identities that bind them."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.audit.metrics import flips, right, transfer, transfer_over_seeds, transfer_rate
from harness.audit.statistics import wilson
from harness.records import Flips

# One column per image; the label is always 0.
LABELS = np.zeros(10, dtype=np.int64)
TWIN_CLEAN = np.array([0, 0, 0, 0, 0, 1, 0, 1, 0, 0])
ENGINE_CLEAN = np.array([0, 0, 0, 0, 1, 0, 0, 2, 1, 0])
TWIN_ADVERSARIAL = np.array([0, 0, 1, 1, 0, 0, 1, 1, 1, 0])
ENGINE_ADVERSARIAL = np.array([0, 1, 0, 1, 0, 0, 2, 1, 1, 1])
ALL = (LABELS, TWIN_CLEAN, ENGINE_CLEAN, TWIN_ADVERSARIAL, ENGINE_ADVERSARIAL)


def test_right_asks_for_both_the_clean_and_the_adversarial_image() -> None:
    assert np.flatnonzero(right(LABELS, TWIN_CLEAN, TWIN_ADVERSARIAL)).tolist() == [0, 1, 4, 9]
    assert np.flatnonzero(right(LABELS, ENGINE_CLEAN, ENGINE_ADVERSARIAL)).tolist() == [0, 2, 5]


def test_the_transfer_rate_is_about_the_model_that_the_set_was_made_on() -> None:
    """An STE twin that is right everywhere when clean, and fooled on images 0 to 3 and 5."""
    fooled = np.array([1, 1, 1, 1, 0, 1, 0, 0, 0, 0])
    found = transfer(*ALL, made_on=(LABELS, fooled), engine="e", source="S3", attack="pgd", eps=Fraction(8, 255))
    # the engine has all five right when clean, and is fooled on 1 and 3
    assert found.transfer_rate == 2 / 5
    assert found.flips == transfer(*ALL, engine="e", source="S1", attack="pgd", eps=Fraction(8, 255)).flips


def test_the_record_of_one_set() -> None:
    found = transfer(*ALL, engine="ort-int8", source="S1", attack="pgd", eps=Fraction(8, 255))
    assert (found.n, found.twin_accuracy, found.engine_accuracy) == (10, 4 / 10, 3 / 10)
    assert found.flips == Flips(both_right=1, twin_only=3, engine_only=2, both_wrong=4)
    assert (found.eps_exact, found.eps) == ("8/255", 8 / 255)
    # both clean-correct and the twin fooled: images 2, 3 and 6, of which 3 and 6 fool the engine (7 and 8 were wrong when clean)
    assert found.transfer_rate == pytest.approx(2 / 3)
    assert found.label_disagreement == 4 / 10  # images 1, 2, 9, and 6, where both are wrong but not alike
    assert found.differential_evasion == 3 / 10
    assert found.ci95 == wilson(3, 10)


def test_eps_zero_is_written_as_zero() -> None:
    assert transfer(*ALL, engine="e", source="clean", attack="clean", eps=Fraction(0)).eps_exact == "0"


def test_nothing_fooled_has_no_transfer_rate() -> None:
    clean = np.zeros(4, dtype=np.int64)
    assert transfer_rate(clean, clean, clean, clean, clean + 1) is None
    assert transfer(clean, clean, clean, clean, clean, engine="e", source="S1", attack="fgsm", eps=Fraction(1, 255)).transfer_ci95 is None


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_the_flip_matrix_adds_up(pairs: list[tuple[bool, bool]]) -> None:
    twin, engine = (np.array(column) for column in zip(*pairs, strict=True))
    table = flips(twin, engine)
    assert table.both_right + table.twin_only + table.engine_only + table.both_wrong == len(pairs)
    assert table.both_right + table.twin_only == twin.sum()
    assert table.both_right + table.engine_only == engine.sum()


@pytest.mark.parametrize(
    "arrays", [(np.array([True]), np.array([True, False])), (np.array([], dtype=bool),) * 2, (np.ones((2, 2), dtype=bool),) * 2]
)
def test_arrays_that_are_not_one_value_per_image_are_refused(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="one value per image"):
        flips(*arrays)


def test_the_transfer_rate_over_seeds_counts_pairs_of_image_and_seed() -> None:
    first = (np.array([0, 1, 2, 3]), np.array([True, True, False, True]), np.array([True, False, True, True]))
    second = (np.array([1, 2]), np.array([True, True]), np.array([True, False]))
    found = transfer_over_seeds(5, [first, second], seed=0)
    assert found is not None
    assert found[0] == 3 / 5, "fooled on 0, 1, 3 and again on 1, 2; of these the engine on 0, 3 and again on 1"
    assert 0 <= found[1][0] < 3 / 5 < found[1][1] <= 1
    nothing = (np.array([0]), np.array([False]), np.array([True]))
    assert transfer_over_seeds(1, [nothing, nothing], seed=0) is None
