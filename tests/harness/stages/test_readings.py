"""Pixels that are meant otherwise are told from the network's answers, on few images where a reading shows no gain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.stages import readings

N = 300


class Colour(nn.Module):
    """Names the strongest of three colours."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


@pytest.fixture
def pictures() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, N)
    images = rng.integers(0, 200, (N, 4, 4, 3)).astype(np.uint8)
    images[np.arange(N), :, :, labels] += 55
    return images, labels


def test_bgr_is_read_on_more_images_than_what_does_not_help(pictures: tuple[Any, Any]) -> None:
    images, labels = pictures
    images = np.ascontiguousarray(images[..., ::-1])
    with torch.inference_mode():
        plain = Colour()(torch.from_numpy(images.transpose(0, 3, 1, 2) / np.float32(255))).argmax(1).numpy()
    found = readings.of_pixels(Colour().eval(), images, labels, plain)
    bgr = next(named for name, named in found.items() if "BGR" in name)
    assert len(bgr) == readings.IMAGES and np.mean(bgr == labels[: len(bgr)]) > 0.95 > 0.6 > np.mean(plain == labels)
    assert {len(named) for name, named in found.items() if "0 to 255" in name} == {readings.FEW}
    assert [name for name in readings.of_pixels(Colour().eval(), images, labels, plain, stretched=False) if "BGR" not in name] == []


def test_images_that_want_contrast_are_told(pictures: tuple[Any, Any]) -> None:
    images, _ = pictures
    assert readings.full_contrast(images)
    assert not readings.full_contrast(images // 4 + 90)
