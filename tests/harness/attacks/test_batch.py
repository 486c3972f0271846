"""One batch: bfloat16 proposes, float32 decides."""

from __future__ import annotations

import copy
from fractions import Fraction

import numpy as np
import pytest
import torch
from linear import linear_data, linear_model
from torch import Tensor, nn

from harness.attacks import batch, foolbox_attacks
from harness.attacks.batch import attack_batch, judge
from harness.attacks.gradient import FastForm
from harness.attacks.table import resolve
from harness.attacks.worst_case import worst_case
from harness.data.dataset import Dataset
from harness.errors import UsageError


@pytest.mark.parametrize("bf16", [True, False])
def test_images_that_bfloat16_leaves_near_the_boundary_are_attacked_again_in_float32(
    bf16: bool, trained: tuple[nn.Module, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = trained
    calls: list[tuple[nn.Module, int]] = []
    real = foolbox_attacks.pgd

    def spy(module: nn.Module, images: Tensor, labels: Tensor, eps: float, seed: int, *, steps: int) -> Tensor:
        calls.append((module, len(images)))
        return real(module, images, labels, eps, seed, steps=steps)

    monkeypatch.setattr(foolbox_attacks, "pgd", spy)
    monkeypatch.setattr(batch, "CLOSE", torch.inf)  # every survivor is near
    form = FastForm(copy.deepcopy(model), bf16)
    wanted = np.ones(len(data), dtype=bool)
    made = attack_batch(model, form, data.images, data.labels, resolve("pgd"), 4, 0, wanted)
    assert calls[0] == (form, made.attacked.sum())
    if bf16:
        assert len(calls) == 2 and calls[1][0] is model
        assert made.right.sum() <= calls[1][1] < made.attacked.sum(), "the second look is for survivors"
    else:
        assert len(calls) == 1, "a float32 form needs no second look"
    np.testing.assert_array_equal(made.right, made.attacked & judge(model, made.images, data.labels)[0])


def test_an_attack_that_returns_nonsense_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Far outside the ball and the image range, and pointing away from the boundary: the clean image is kept."""
    model = linear_model(2)
    data = linear_data(model)
    weight = model[1].weight.detach()

    def foolish(module: nn.Module, images: Tensor, labels: Tensor, eps: float, seed: int, *, steps: int) -> Tensor:
        return images + 7 * (weight[labels] - weight[1 - labels]).sign().view_as(images)

    monkeypatch.setattr(foolbox_attacks, "pgd", foolish)
    made = attack_batch(model, model, data.images, data.labels, resolve("pgd"), 8, 0, np.ones(len(data), dtype=bool))
    np.testing.assert_array_equal(made.images, data.images)
    np.testing.assert_array_equal(made.right, made.attacked)


def test_a_minimum_norm_attack_has_no_worst_case() -> None:
    model = linear_model(2)
    with pytest.raises(UsageError, match="cw-l2 has no radius"):
        worst_case(model, linear_data(model), np.arange(4), [resolve("pgd"), resolve("cw-l2")], Fraction(8, 255), 0)
