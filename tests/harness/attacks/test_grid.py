"""From an attack's floats to bytes in the exact ball."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from harness.attacks.grid import STRETCHES, ball_levels, candidates, check_ball
from harness.errors import UntrustedError, UsageError

SHAPE = (2, 3, 3, 1)
clean_images = hnp.arrays(np.uint8, SHAPE)
found_images = hnp.arrays(np.float32, SHAPE, elements=st.floats(-0.5, 1.5, width=32))


@given(clean=clean_images, found=found_images, levels=st.integers(0, 255))
def test_every_candidate_lies_in_the_ball(clean: NDArray[np.uint8], found: NDArray[np.float32], levels: int) -> None:
    for candidate in candidates(clean, found, levels):
        assert candidate.dtype == np.uint8 and candidate.shape == clean.shape
        assert np.abs(candidate.astype(int) - clean.astype(int)).max() <= levels
        check_ball(clean, candidate, levels)


@given(clean=clean_images, found=found_images, levels=st.integers(0, 255))
def test_the_first_candidate_is_the_nearest_in_the_ball(clean: NDArray[np.uint8], found: NDArray[np.float32], levels: int) -> None:
    first = next(candidates(clean, found, levels))
    wish = 255 * found.astype(np.float64)
    low, high = np.maximum(clean.astype(int) - levels, 0), np.minimum(clean.astype(int) + levels, 255)
    assert (np.abs(first - wish) <= np.abs(np.clip(wish, low, high) - wish) + 0.5 + 1e-9).all()


@given(clean=clean_images, shift=hnp.arrays(np.int16, SHAPE, elements=st.integers(-8, 8)))
def test_an_image_on_the_grid_and_in_the_ball_stays(clean: NDArray[np.uint8], shift: NDArray[np.int16]) -> None:
    image = np.clip(clean.astype(np.int16) + shift, 0, 255).astype(np.uint8)
    for candidate in candidates(clean, (image / np.float32(255)).astype(np.float32), 8):
        np.testing.assert_array_equal(candidate, image)


@given(clean=clean_images, found=hnp.arrays(np.float32, SHAPE, elements=st.floats(0, 1, width=32)))
def test_a_minimum_norm_image_is_tried_along_its_line(clean: NDArray[np.uint8], found: NDArray[np.float32]) -> None:
    """As it is at first, then nearer and farther: the farther along, the larger every change."""
    tried = [np.abs(c.astype(int) - clean.astype(int)) for c in candidates(clean, found, None)]
    np.testing.assert_array_equal(tried[0], np.abs(np.rint(found.astype(np.float64) * 255 - clean)))
    in_order = [tried[i] for i in np.argsort(STRETCHES)]
    assert min(STRETCHES) < 1 < max(STRETCHES)
    for nearer, farther in pairwise(in_order):
        assert (farther >= nearer).all()


def test_leaving_the_ball_is_refused() -> None:
    clean = np.full(SHAPE, 100, dtype=np.uint8)
    far = clean.copy()
    far[1, 2, 0, 0] = 91
    check_ball(clean, far, 9)
    check_ball(clean, far, None)
    with pytest.raises(UntrustedError, match=r"9/255 .* at most 8/255"):
        check_ball(clean, far, 8)


@given(st.integers(0, 254), st.fractions(0, 1).filter(lambda f: f < 1))
def test_the_radius_in_levels_is_exact(levels: int, rest: Fraction) -> None:
    if levels or not rest:
        assert ball_levels((levels + rest) / Fraction(255)) == levels


def test_a_radius_that_holds_no_other_image_is_refused() -> None:
    assert ball_levels(Fraction("0.031")) == 7  # not 8/255
    with pytest.raises(UsageError, match="smaller than one level"):
        ball_levels(Fraction(1, 256))
