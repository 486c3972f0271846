"""Which images are all but those of another set, whatever the data are."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from harness.audit import gates
from harness.audit.copies import near_copies
from harness.data.dataset import Dataset
from harness.data.load import load_data
from harness.data.split import set_aside
from harness.records import Gate

Images = NDArray[np.uint8]
TEST, CALIBRATION = (part.images for part in load_data("cifar10-sample", input_shape=(3, 32, 32), classes=10, seed=0))
TEST, CALIBRATION = TEST[:300], CALIBRATION[:200]
SIGNS = np.random.default_rng(0).choice([-8, 8], CALIBRATION.shape)


def moved(images: Images, by: NDArray[np.int64] | int) -> Images:
    return np.clip(images.astype(np.int64) + by, 0, 255).astype(np.uint8)


def as_jpeg(images: Images) -> Images:
    def one(image: Images) -> Images:
        held = io.BytesIO()
        Image.fromarray(image).save(held, "JPEG", quality=75)
        return np.array(Image.open(held))

    return np.stack([one(image) for image in images])


WAYS: dict[str, Callable[[Images], Images]] = {
    "to the byte": lambda images: images,
    "mirrored": lambda images: images[:, :, ::-1],
    "noise of 8/255": lambda images: moved(images, SIGNS[: len(images)]),
    "JPEG of quality 75": as_jpeg,
    "brighter": lambda images: moved(images, 4),
}


@pytest.mark.parametrize("way", WAYS)
def test_images_that_were_changed_a_little_are_found_and_no_others(way: str) -> None:
    leaked = WAYS[way](TEST[:100])
    found = near_copies(TEST, np.concatenate([leaked, CALIBRATION[:100]]))
    assert found[:100].sum() >= 98
    assert not found[100:].any()


@pytest.mark.parametrize("n", [2, 16, 300])
def test_another_sample_of_the_same_data_is_far(n: int) -> None:
    assert not near_copies(TEST[:n], CALIBRATION).any()


@pytest.mark.parametrize("shape", [(224, 224, 3), (28, 28, 1), (5, 1, 1), (48, 80, 3)])
def test_any_size_and_any_contrast(shape: tuple[int, int, int]) -> None:
    """Two samples of a pattern and noise of one unit: what is near follows from the samples, not from 255."""
    random = np.random.default_rng(0)
    pattern = random.integers(100, 110, shape)
    images = np.stack([moved(pattern, random.integers(-9, 10, shape)) for _ in range(40)])
    own, others = images[:20], images[20:]
    assert not near_copies(own, others).any() or shape == (5, 1, 1)  # five pixels are soon alike
    assert near_copies(own, np.concatenate([others, own[:3]]))[:3].all()


def test_a_set_of_one_image_or_of_the_same_image_has_copies_only_where_they_are_copies() -> None:
    assert not near_copies(TEST[:1], CALIBRATION).any()
    black = np.zeros_like(TEST[:5])
    assert not near_copies(black, CALIBRATION).any()
    assert near_copies(black, black).all()


def test_the_gate_allows_one_near_copy_by_chance_and_two_in_a_hundred() -> None:
    def gate(leaked: int, of: int) -> Gate:
        return gates.calibration_disjoint(np.concatenate([moved(TEST[:leaked], 3), CALIBRATION[: 200 - leaked]]), TEST[:of])

    assert [gate(leaked, of).passed for leaked, of in ((1, 20), (2, 20), (6, 300), (7, 300))] == [True, False, True, False]
    assert gate(7, 300).observed == "0 of 300 test images are among the 200 calibration images, and 7 nearly, encoded anew or mirrored"


def test_data_that_hold_pairs_are_not_accused_of_what_was_set_aside_from_them() -> None:
    """Two pictures of each thing: of one in five, this program itself took the other to calibrate."""
    pairs = moved(np.repeat(TEST[:200], 2, axis=0), np.random.default_rng(0).integers(-2, 3, (400, 32, 32, 3)))
    test, calibration = set_aside(Dataset("pairs", pairs, np.arange(400) % 10), 0)
    assert calibration.set_aside and not test.set_aside
    found = gates.calibration_disjoint(calibration.images, test.images, set_aside=True)
    assert (
        found.passed is None
        and "0 of 320 test images" in found.observed
        and ": undecided, since the data themselves hold" in found.observed
    )
    assert gates.calibration_disjoint(calibration.images, test.images).passed is False
    assert gates.calibration_disjoint(test.images[:9], test.images, set_aside=True).passed is False, "copies to the byte"
