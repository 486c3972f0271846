"""Stratified subsets and the set-aside calibration slice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.dataset import Dataset
from harness.data.split import contents, interleave, set_aside, stratified, without_copies
from harness.errors import UsageError

labellings = st.lists(st.integers(0, 5), min_size=1, max_size=120).map(lambda values: np.array(values, dtype=np.int64))


@given(labellings, st.integers(0, 2**32 - 1))
def test_interleave_is_a_permutation_whose_every_prefix_is_nearly_stratified(labels: np.ndarray, seed: int) -> None:
    order = interleave(labels, seed)
    assert sorted(order) == list(range(len(labels)))
    counts = np.bincount(labels, minlength=6)
    classes = np.count_nonzero(counts)
    for n in range(1, len(labels) + 1):
        seen = np.bincount(labels[order[:n]], minlength=6)
        assert np.abs(seen - counts * n / len(labels)).max() <= 1 + classes * counts.max() / len(labels)


@given(st.integers(1, 8), st.integers(1, 20), st.integers(0, 99))
def test_balanced_classes_come_round_robin(classes: int, each: int, seed: int) -> None:
    labels = np.repeat(np.arange(classes), each)
    rounds = labels[interleave(labels, seed)].reshape(each, classes)
    assert all(sorted(row) == list(range(classes)) for row in rounds)


def test_stratified_depends_on_the_seed_alone() -> None:
    labels = np.arange(100) % 10
    assert np.array_equal(stratified(labels, 30, 1), stratified(labels, 30, 1))
    assert not np.array_equal(stratified(labels, 30, 1), stratified(labels, 30, 2))


@pytest.mark.parametrize("n", [0, -1, 11])
def test_more_images_than_there_are_is_refused(n: int) -> None:
    with pytest.raises(UsageError, match=f"{n} images asked for, but the data holds 10"):
        stratified(np.zeros(10, dtype=np.int64), n, 0)


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)


@given(st.integers(5, 60), st.integers(0, 9))
def test_set_aside_is_disjoint_and_loses_no_test_image(n: int, seed: int) -> None:
    data = Dataset("mine", images(n), np.arange(n) % 3)
    test, calibration = set_aside(data, seed)
    assert len(calibration) == n // 5
    assert sorted([*contents(test.images), *contents(calibration.images)]) == sorted(contents(data.images))


def test_set_aside_takes_at_most_512() -> None:
    n = 3000
    test, calibration = set_aside(Dataset("mine", images(n), np.arange(n) % 7), 0)
    assert (len(test), len(calibration)) == (n - 512, 512)


def test_a_calibration_image_that_the_test_part_repeats_is_dropped() -> None:
    base = images(60)
    data = Dataset("mine", np.concatenate([base, base[:40]]), np.arange(100) % 2)
    test, calibration = set_aside(data, 0)
    assert len(test) == 80
    assert 0 < len(calibration) < 20
    assert not set(contents(test.images)) & set(contents(calibration.images))


def test_nothing_but_copies_is_refused() -> None:
    data = Dataset("mine", np.repeat(images(1), 10, axis=0), np.zeros(10, dtype=np.int64))
    with pytest.raises(UsageError, match="every calibration image is also a test image"):
        set_aside(data, 0)


def test_too_few_to_set_any_aside_is_refused() -> None:
    with pytest.raises(UsageError, match="holds 4 images; at least 5"):
        set_aside(Dataset("mine", images(4), np.zeros(4, dtype=np.int64)), 0)


def test_calibration_of_another_size_is_refused() -> None:
    test = Dataset("mine", images(3), np.zeros(3, dtype=np.int64))
    other = Dataset("other", np.zeros((3, 5, 4, 3), np.uint8), np.zeros(3, dtype=np.int64))
    with pytest.raises(UsageError, match=r"calibration images are \(5, 4, 3\), test images \(4, 4, 3\)"):
        without_copies(other, test)
