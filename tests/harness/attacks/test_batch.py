"""One batch: bfloat16 proposes, float32 decides."""

from __future__ import annotations

import copy
import dataclasses
from fractions import Fraction
from types import ModuleType

import numpy as np
import pytest
import torch
from linear import linear_data, linear_model
from torch import Tensor, nn

from harness.attacks import batch, foolbox_attacks
from harness.attacks import pgd as pgd_module
from harness.attacks.batch import Panel, attack_batch
from harness.attacks.clean import judge
from harness.attacks.gradient import FastForm
from harness.attacks.search import NearestSearch, Search
from harness.attacks.table import resolve
from harness.attacks.target import ModuleTarget
from harness.attacks.worst_case import worst_case
from harness.data.dataset import Dataset
from harness.errors import UsageError


@pytest.mark.parametrize("cascade", [True, False])
@pytest.mark.parametrize("bf16", [True, False])
def test_images_that_bfloat16_leaves_near_the_boundary_are_attacked_again_in_float32(
    bf16: bool, cascade: bool, trained: tuple[nn.Module, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = trained
    calls: list[tuple[nn.Module, int]] = []
    begun: list[tuple[bool, int]] = []
    real = pgd_module.pgd

    def spy(search: Search, *, steps: int) -> None:
        calls.append((search.module, len(search.images)))
        begun.append((search.warm, steps))
        real(search, steps=steps)

    monkeypatch.setattr(pgd_module, "pgd", spy)
    monkeypatch.setattr(batch, "CLOSE", torch.inf)  # every survivor is near
    form = FastForm(copy.deepcopy(model), bf16)
    right = judge(model, data.images, data.labels)[0]
    panel = Panel([ModuleTarget(model, "twin")], ~right[:, None]) if cascade else None
    made = attack_batch(model, form, data.images, data.labels, resolve("pgd"), 4, range(len(data)), right, panel)
    assert calls[0] == (form, made.attacked.sum())
    if bf16:
        assert len(calls) == 2 and isinstance(second := calls[1][0], FastForm) and not second.bf16
        assert made.right.sum() <= calls[1][1] < made.attacked.sum(), "the second look is for survivors"
        assert begun == [(False, 20), (panel is not None, 5 if panel else 20)], "in a cascade it goes on from where the first ended"
    else:
        assert len(calls) == 1, "a float32 form needs no second look"
    np.testing.assert_array_equal(made.right, made.attacked & judge(model, made.images, data.labels)[0])


def test_where_an_earlier_attack_left_off_it_is_gone_on_from_with_fewer_steps_before_a_whole_random_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing can be won from the clean images with a gradient of zero: every image gets both runs. With `continues`, the first alone."""
    model = linear_model(2)
    data = linear_data(model, wrong=0)
    calls: list[tuple[bool, int, bool]] = []

    def spy(search: Search, *, steps: int) -> None:
        begun = [search.start() for _ in range(2)]
        calls.append((search.warm, steps, all(bool((x == search.images).all()) for x in begun)))

    monkeypatch.setattr(pgd_module, "pgd", spy)
    for attack in (resolve("pgd"), dataclasses.replace(resolve("pgd"), continues=True)):
        attack_batch(model, model, data.images, data.labels, attack, 4, range(len(data)), np.ones(len(data), bool), first=data.images)
    assert calls == [(True, 5, True), (False, 20, False), (True, 20, True)]


def test_an_attack_that_returns_nonsense_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Far outside the ball and the image range, and pointing away from the boundary: the clean image is kept."""
    model = linear_model(2)
    data = linear_data(model)
    weight = model[1].weight.detach()

    def foolish(search: Search, *, steps: int) -> None:
        away = (weight[search.labels] - weight[1 - search.labels]).sign().view_as(search.images)
        search.best = search.images + 7 * away

    monkeypatch.setattr(pgd_module, "pgd", foolish)
    made = attack_batch(model, model, data.images, data.labels, resolve("pgd"), 8, range(len(data)), np.ones(len(data), dtype=bool))
    np.testing.assert_array_equal(made.images, data.images)
    np.testing.assert_array_equal(made.right, made.attacked)


def test_a_minimum_norm_attack_has_no_worst_case() -> None:
    model = linear_model(2)
    with pytest.raises(UsageError, match="cw-l2 has no radius"):
        worst_case(model, linear_data(model), np.arange(4), [resolve("pgd"), resolve("cw-l2")], Fraction(8, 255), 0)


def level_shift(bias: float) -> nn.Module:
    """Two classes, decided by the mean of 768 entries: class 1 where it is above a half by more than `bias` levels of 1/255."""
    layer = nn.Linear(768, 2)
    with torch.no_grad():
        layer.weight[0], layer.weight[1] = 0, 255 / 768
        layer.bias[0], layer.bias[1] = 0, -128 - bias
    return nn.Sequential(nn.Flatten(), layer).eval()


GREY = np.full((4, 16, 16, 3), 128, dtype=np.uint8)
ZEROS = np.zeros(4, dtype=np.int64)
ALL = np.ones(4, dtype=bool)


def test_a_minimum_norm_success_that_rounding_would_undo_is_found_among_the_iterates() -> None:
    """The boundary is 0.2 levels away in every entry: its nearest floats, and twice as far, round to the clean image."""
    model = level_shift(0.2)
    made = attack_batch(model, model, GREY, ZEROS, resolve("cw-l2"), None, range(4), ALL)
    assert made.attacked.all() and not made.right.any()
    assert not judge(model, made.images, ZEROS)[0].any()
    assert not made.undone.any()


def test_the_nearest_iterate_that_fools_as_bytes_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passed by: one that fools at 5 levels, one at 2, one at 3; returned: floats beyond the boundary that no bytes near them are."""
    model = level_shift(0.2)

    def passing_by(search: NearestSearch, *, steps: int) -> None:
        for levels in (5, 2, 3):
            search.ask(search.images + levels / 255)
        search.left = search.images + 0.21 / 255

    monkeypatch.setattr(foolbox_attacks, "cw_l2", passing_by)
    made = attack_batch(model, model, GREY, ZEROS, resolve("cw-l2"), None, range(4), ALL)
    kept = made.images.astype(int) - GREY
    assert not made.right.any()
    assert np.isin(kept, [1, 2]).all(), "the nearest, or a byte image on the way to it"


def test_an_image_of_zeros_that_foolbox_returns_for_want_of_another_is_not_taken() -> None:
    """A flat network that calls black another class: no gradient leads there."""

    class Flat(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            mean = images.flatten(1).mean(1)
            return torch.stack([torch.ones_like(mean), 1000 * (0.02 - mean).relu()], dim=1)

    model = Flat().eval()
    assert not judge(model, np.zeros_like(GREY), ZEROS)[0].any(), "black fools"
    made = attack_batch(model, model, GREY, ZEROS, resolve("cw-l2"), None, range(4), ALL)
    np.testing.assert_array_equal(made.images, GREY)
    assert made.right.all() and not made.undone.any()


@pytest.mark.parametrize(("name", "where", "levels"), [("pgd", (pgd_module, "pgd"), 8), ("cw-l2", (foolbox_attacks, "cw_l2"), None)])
def test_successes_that_rounding_undoes_are_counted(
    name: str, where: tuple[ModuleType, str], levels: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that only images off the byte grid fool."""

    class OffGrid(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            off = (255 * images - (255 * images).round()).abs().flatten(1).mean(1)
            return torch.stack([torch.full_like(off, 0.1), off], dim=1)

    def half_way(search: Search, *, steps: int) -> None:
        found = search.images + 0.4 / 255
        found[0] = search.images[0]
        search.ask(found)
        search.left = search.best = found

    monkeypatch.setattr(*where, half_way)
    model = OffGrid().eval()
    made = attack_batch(model, model, GREY, ZEROS, resolve(name), levels, range(4), ALL)
    assert made.right.all()
    assert made.undone.tolist() == [False, True, True, True]
    if levels is not None:
        data = Dataset("grey", GREY, ZEROS)
        assert worst_case(model, data, np.arange(4), [resolve(name)], Fraction(levels, 255), 0).undone == {name: (3, 4)}
