"""Batches follow from what an image's gradient needs, and from nothing else."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from linear import linear_data, linear_model
from torch import Tensor, nn
from torchvision import models

from harness.attacks import batch_size as sizes
from harness.attacks.batch_size import activation_bytes, batch_size
from harness.attacks.sets import make_set
from harness.attacks.table import resolve
from harness.attacks.worst_case import worst_case
from harness.compute.placement import CPU
from harness.models.predictions import logits
from harness.models.zoo import ARCHITECTURES

ONE = (1 + sizes.IMAGE_COPIES) * 4 * 16  # bytes of an image of 4 x 4, and of what a ReLU keeps of it
SMALL = np.zeros((1, 32, 32, 3), np.uint8)
LARGE = np.zeros((1, 224, 224, 3), np.uint8)
WIDE = {"wrn-28-10", "wrn-34-10", "mobilenetv2-cifar"}


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "device", lambda: CPU)


def test_a_gpu_gets_larger_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "device", lambda: torch.device("cuda", 0))
    assert batch_size(ARCHITECTURES["resnet18x16"](10), SMALL) == 1024


def test_each_activation_is_counted_once_and_no_weight() -> None:
    """exp keeps its result, sin its input, which is that result; the product with a weight keeps the weight alone."""

    class Known(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.rand(1000))

        def forward(self, x: Tensor) -> Tensor:
            return (x.exp().sin().sum((1, 2, 3))[:, None] * self.weight).sum(1)

    assert activation_bytes(Known(), (3, 5, 7)) == 3 * 5 * 7 * 4


def test_a_network_that_changes_its_input_is_measured() -> None:
    assert activation_bytes(nn.Sequential(nn.ReLU(inplace=True), nn.Flatten()), (1, 4, 4)) == 64


@pytest.mark.parametrize("arch", sorted(ARCHITECTURES.keys() - WIDE))
def test_networks_for_small_images_get_full_batches(arch: str) -> None:
    assert batch_size(ARCHITECTURES[arch](10), SMALL) == 128


@pytest.mark.parametrize("arch", sorted(WIDE))
def test_wide_networks_for_small_images_get_half_or_a_quarter_of_it(arch: str) -> None:
    assert batch_size(ARCHITECTURES[arch](10), SMALL) in (32, 64)


def test_a_resnet50_at_224_gets_a_batch_that_fits() -> None:
    module = models.resnet50(weights=None).eval()
    batch = batch_size(module, LARGE)
    assert 4 <= batch <= 16
    of_one = activation_bytes(module, (3, 224, 224)) + sizes.IMAGE_COPIES * 4 * 3 * 224 * 224
    assert batch * of_one <= sizes.BUDGET["cpu"] < 2 * batch * of_one


def test_large_images_count_even_where_the_network_keeps_little_of_them() -> None:
    """An attack holds many copies of them: at 224 px 128 images would be 2 GiB."""
    assert batch_size(nn.Sequential(nn.AvgPool2d(32), nn.Flatten()), LARGE) in (32, 64)


@pytest.mark.parametrize(("budget", "expected"), [(0, 1), (1, 1), (ONE * 3 - 1, 2), (ONE * 4, 4), (10**9, 128)])
def test_powers_of_two_from_1_to_128(budget: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sizes.BUDGET, "cpu", budget)
    assert batch_size(nn.ReLU(), np.zeros((1, 4, 4, 1), np.uint8)) == expected


def test_sets_worst_cases_and_predictions_keep_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = linear_model(3)
    data, index = linear_data(model), np.arange(40)
    seen: list[int] = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    monkeypatch.setattr("harness.attacks.sets.batch_size", lambda *_: 4)
    monkeypatch.setattr("harness.attacks.worst_case.batch_size", lambda *_: 4)
    monkeypatch.setattr("harness.attacks.forms.batch_size", lambda *_: 4)
    monkeypatch.setattr("harness.models.predictions.batch_size", lambda *_: 4)
    eps, pgd = Fraction(8, 255), resolve("pgd")
    for work in (
        lambda: make_set(model, data, index, pgd, eps, 0, source="S1", folder=tmp_path),
        lambda: worst_case(model, data, index, [pgd], eps, 0),
        lambda: logits(model, data.images[index]),
    ):
        seen.clear()
        work()
        assert max(seen) == 4
