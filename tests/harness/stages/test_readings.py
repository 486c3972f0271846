"""Pixels that are meant otherwise are told from the network's answers, on few images where a reading shows no gain."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.data.dataset import Dataset
from harness.stages import readings
from harness.stages.gates.data import clean_accuracy

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
    assert [name for name in readings.of_pixels(Colour().eval(), images, labels, plain, stretched=False) if "--normalize" in name] == []


class Column(nn.Module):
    """Names the brightest of three columns."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(1, 2))[:, :3]


def test_rows_and_columns_that_were_exchanged_are_told() -> None:
    """As `.T` or `transpose(0, 3, 2, 1)` of images with their channels first does."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, N)
    images = rng.integers(0, 200, (N, 4, 4, 3)).astype(np.uint8)
    images[np.arange(N), :, labels] += 55

    def gate(images: Any) -> Any:
        test = Dataset("columns", np.ascontiguousarray(images), labels)
        with torch.inference_mode():
            logits = Column()(torch.from_numpy(test.images.transpose(0, 3, 1, 2) / np.float32(255))).numpy()
        return clean_accuracy(SimpleNamespace(test=test, twin=SimpleNamespace(module=Column(), classes=3, card={})), logits)

    assert gate(images).passed
    wrong = gate(images.transpose(0, 2, 1, 3))
    assert wrong.passed is False and "rows and columns exchanged: then 9" in wrong.observed, wrong.observed


class Bright(nn.Module):
    """Names 0 what is dark and 1 what is bright."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(1, 2, 3))
        return torch.stack([1 - mean, mean], dim=1)


@pytest.mark.parametrize("ordered", [True, False])
def test_images_in_the_order_of_their_classes_are_not_read_by_the_first_class_alone(ordered: bool) -> None:
    """As a folder's are: read as of -1 to 1 every image is darker, and all of class 0 right, which the first 256 would be."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], N) if ordered else np.tile([0, 1], N)
    images = np.clip(
        255 * (rng.uniform(0.2, 0.65, 2 * N) + 0.25 * labels)[:, None, None, None] + rng.uniform(-70, 70, (2 * N, 4, 4, 3)), 0, 255
    )
    test = Dataset("brightness", images.astype(np.uint8), labels)
    with torch.inference_mode():
        logits = Bright()(torch.from_numpy(test.images.transpose(0, 3, 1, 2) / np.float32(255))).numpy()
    subject = SimpleNamespace(test=test, twin=SimpleNamespace(module=Bright(), classes=2, card={}))
    gate = clean_accuracy(subject, logits)
    assert 0.6 < np.mean(logits.argmax(1) == labels) < 0.8
    assert gate.passed, gate.observed


def test_images_that_want_contrast_are_told(pictures: tuple[Any, Any]) -> None:
    images, _ = pictures
    assert readings.full_contrast(images)
    assert not readings.full_contrast(images // 4 + 90)
