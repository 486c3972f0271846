"""Each cause of few right images, planted, is named; nothing is named without one."""

import numpy as np
import pytest

from harness.audit.causes import explain

LABELS = np.arange(240) % 12
TEXT = np.array(sorted(range(12), key=str))
FROM_ONE = np.array(sorted(range(1, 13), key=str)) - 1
SWAPPED = np.array([3, 0, 1, 2, 5, 4, 7, 6, 9, 8, 11, 10])


@pytest.mark.parametrize(
    ("predictions", "says"),
    [
        (LABELS + 1, "one too low"),
        (LABELS - 1, "one too high"),
        (TEXT[LABELS], "sorted as text (0, 1, 10, 2, …)"),
        (FROM_ONE[LABELS], "sorted as text (1, 10, 2, …)"),
        (SWAPPED[LABELS], "another order"),
    ],
)
def test_another_numbering_is_named(predictions: np.ndarray, says: str) -> None:
    noisy = predictions.copy()
    noisy[::10] = 5
    labels, noisy = LABELS[noisy >= 0], noisy[noisy >= 0]
    told = explain(labels, noisy, {}, 13)
    assert says in told and "would be right" in told


def test_two_classes_of_many_in_each_others_place_are_another_order() -> None:
    swapped = np.select([LABELS == 3, LABELS == 7], [7, 3], LABELS)
    swapped[::8] = 0
    assert "another order" in explain(LABELS, swapped, {}, 12)


def test_two_classes_of_a_hundred_in_each_others_place_are_told() -> None:
    """All but two points of the images are right as they are."""
    labels, draw = np.arange(2000) % 100, np.random.default_rng(0)
    named = np.where(draw.random(2000) < 0.2, draw.integers(0, 100, 2000), labels)
    assert explain(labels, named, {}, 100) == ""
    swapped = np.select([labels == 3, labels == 70], [70, 3], labels)
    told = explain(swapped, named, {}, 100)
    assert told.startswith("the classes 3 and 70 seem to be in each other's place, by their own images: then ") and "of 40 would be" in told
    alike = np.where(np.isin(labels, (3, 70)), draw.choice([3, 70], 2000), named)
    assert explain(labels, alike, {}, 100) == "", "two classes that nobody tells apart"


def test_what_chance_makes_of_many_classes_is_no_order() -> None:
    """Five images of each of 1,000 classes, told from one other by chance alone: the order that fits these images has 62 % right."""
    labels = np.repeat(np.arange(1000), 5)
    assert explain(labels, labels ^ np.random.default_rng(0).integers(0, 2, 5000), {}, 1000) == ""


def test_a_reading_of_the_pixels_is_named() -> None:
    wrong = np.zeros_like(LABELS)
    assert explain(LABELS, wrong, {"BGR": LABELS[:60], "twice": wrong[:60]}, 12) == "BGR: then 100.0% of 60 would be right"


def test_chance_explains_nothing() -> None:
    rng = np.random.default_rng(0)
    for n in (24, 240):
        assert explain(LABELS[:n], rng.integers(0, 12, n), {"BGR": rng.integers(0, 12, n)}, 12) == ""


def test_a_network_that_is_nearly_right_needs_no_other_reading() -> None:
    assert explain(LABELS, np.where(np.arange(240) < 150, LABELS, 0), {"BGR": LABELS}, 12).startswith("BGR")
    assert explain(LABELS, np.where(np.arange(240) < 235, LABELS, 0), {}, 12) == ""


def test_one_class_that_is_named_for_all_is_no_reading() -> None:
    """Of 95 images in a hundred of one class, whatever makes a network name one class has 95 % right."""
    labels = np.where(np.arange(400) % 20, 0, 1)
    assert explain(labels, np.full(400, 2), {}, 3) == "", "not another order of the classes"
    told_apart = np.where(np.arange(400) % 10, labels, 1 - labels)
    assert explain(labels, told_apart, {"BGR": np.zeros(400, int)}, 3) == "", "not other colours"
    assert "BGR" in explain(labels, told_apart, {"BGR": labels}, 3)


def test_a_reading_of_the_pixels_tells_nothing_of_images_of_one_class() -> None:
    """Of pixels 255 times as bright a sound network names one class for all: where that is the only one, all are right."""
    named = np.where(np.arange(160) % 4 == 0, 0, 1)
    assert explain(np.ones(160, np.int64), named, {"of 0 to 255": np.ones(160, np.int64)}, 2) == ""
    assert "one too low" in explain(np.zeros(160, np.int64), named, {"of 0 to 255": np.zeros(160, np.int64)}, 2)


def test_the_order_is_looked_for_among_the_classes_that_occur() -> None:
    """A table of all 1,000,001 classes of a network would not fit into memory."""
    labels = np.where(np.arange(60) % 2, 0, 1_000_000)
    assert "another order" in explain(labels, np.where(labels, 77, 5), {}, 1_000_001)
