"""Linear classifiers, for which the strongest perturbation is known exactly (adv-lib's way of testing attacks)."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from linear import differences, linear_data, linear_model, smallest_margin, without_ties
from torch import nn

from harness.attacks import apgd, batch
from harness.attacks.search import NearestSearch, Search
from harness.attacks.sets import make_set
from harness.attacks.square import square_l2
from harness.attacks.table import resolve
from harness.attacks.worst_case import worst_case
from harness.data.dataset import to_tensor

STRONG = ["bim", "pgd", "apgd-ce", "apgd-dlr", "apgd-t", "apgd-scaled", "apgd-probs", "bpda"]
EPS = Fraction(8, 255)


@pytest.mark.parametrize("name", [*STRONG, "fgsm"])
@pytest.mark.parametrize(("low", "high"), [(64, 192), (0, 256)], ids=["middle", "at the edges"])
def test_two_classes_reach_the_exact_optimum(name: str, low: int, high: int, tmp_path: Path) -> None:
    model = linear_model(2)
    data = without_ties(model, linear_data(model, low=low, high=high), 8)
    robust = smallest_margin(model, data, 8) > 0
    assert 0.1 < robust.mean() < 0.9
    record, _ = make_set(model, data, np.arange(len(data)), resolve(name), EPS, 0, source="S1", folder=tmp_path)
    assert record.target_accuracy == robust.mean()


@pytest.mark.parametrize("name", STRONG)
def test_three_classes_reach_the_exact_optimum(name: str, tmp_path: Path) -> None:
    model = linear_model(3)
    data = without_ties(model, linear_data(model), 4)
    robust = smallest_margin(model, data, 4) > 0
    assert 0.1 < robust.mean() < 0.9
    record, _ = make_set(model, data, np.arange(len(data)), resolve(name), Fraction(4, 255), 0, source="S1", folder=tmp_path)
    assert record.target_accuracy == pytest.approx(robust.mean(), abs=1 / len(data))


def test_the_targeted_form_goes_all_the_way_towards_the_two_nearest_classes_alone() -> None:
    """Class 1 has the largest logit beside the own one, but nothing moves it; 4 and 2 can come nearest."""
    slopes, offsets = torch.tensor([0.0, 0.0, 2.0, 0.1, -3.0]), torch.tensor([9.0, 6.2, 5.5, 4.0, 5.0])

    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return offsets + slopes * (x.mean((1, 2, 3))[:, None] - 0.5) / float(EPS)

    aims: list[int] = []

    class Watched(Search):
        def start(self, *, touching: bool = False) -> torch.Tensor:
            aims.append(int(self.remembered[0, len(aims)] if len(aims) < 4 else self.remembered[0, len(aims) - 4]))
            return super().start(touching=touching)

    search = Watched(Model(), torch.full((1, 3, 4, 4), 0.5), torch.tensor([0]), float(EPS), [0])
    apgd.apgd_t(search, steps=20)
    assert aims == [1, 2, 4, 3, 4, 2]
    assert search.queries.tolist() == [4 * (5 + 1) + 2 * (20 + 1)]
    assert resolve("apgd-t").runs == apgd.MOST_TARGETS / apgd.SHORT + apgd.NEAREST


@pytest.mark.parametrize(
    ("name", "finds"), [("apgd-ce", False), ("apgd-scaled", True), ("apgd-probs", True), ("apgd-dlr", True), ("bpda", True)]
)
def test_large_logits_hide_the_gradient_of_the_cross_entropy_alone(name: str, finds: bool, tmp_path: Path) -> None:
    model = linear_model(3)
    data = without_ties(model, linear_data(model), 8)
    robust = smallest_margin(model, data, 8) > 0
    with torch.no_grad():
        model[1].weight *= 1e6
        model[1].bias *= 1e6
    record, _ = make_set(model, data, np.arange(len(data)), resolve(name), EPS, 0, source="S3", folder=tmp_path)
    assert bool(abs(record.target_accuracy - robust.mean()) <= 1 / len(data)) is finds
    assert record.zero_gradient_share > 0.5, "the gate sees it"


@pytest.mark.parametrize("targeted", [False, True])
def test_logits_that_nearly_tie_make_no_gradient_that_half_precision_cannot_hold(targeted: bool) -> None:
    """The ratio's own gradient is one over the difference: a network that computes in float16 was refused for it."""
    logits = torch.tensor([[1.0 + 3e-6, 1.0 + 2e-6, 1.0, 1.0 - 3e-6], [3.0, 2.0, 1.0, 0.0]], requires_grad=True)
    labels, other = torch.tensor([0, 0]), torch.tensor([1, 1])
    value = apgd.targeted_dlr(logits, labels, other) if targeted else apgd.dlr(logits, labels)
    gradient = torch.autograd.grad(value.sum(), logits)[0]
    assert gradient.half().isfinite().all() and (gradient.abs().amax(1) > 0.1).all()
    own, ordered = logits[:, 0], logits.topk(4, dim=1).values
    of = ordered[:, 0] - (ordered[:, 2:].mean(1) if targeted else ordered[:, 2]) + 1e-12
    plain = (logits[:, 1] - own) / of
    torch.testing.assert_close(value, plain)
    expected = torch.autograd.grad(plain.sum(), logits)[0]
    torch.testing.assert_close(torch.nn.functional.normalize(gradient), torch.nn.functional.normalize(expected))


def test_noise_is_the_floor_and_not_an_attack(tmp_path: Path) -> None:
    model = linear_model(2)
    data = linear_data(model)
    record, images = make_set(model, data, np.arange(len(data)), resolve("noise"), EPS, 0, source="S0", folder=tmp_path)
    assert record.target_accuracy > (smallest_margin(model, data, 8) > 0).mean()
    moved = np.abs(images[10:].astype(int) - data.images[10:].astype(int))
    assert 8 in moved and set(np.unique(moved)) <= {0, 8}, "an entry is moved by the whole radius, or the image's clean form was the worst"


def test_carlini_wagner_finds_the_smallest_distance(tmp_path: Path) -> None:
    """To the plane w.x + b = 0 it is |w.x + b| / ||w||_2; rounding to bytes may add a little."""
    model = linear_model(2)
    with torch.no_grad():
        model[1].weight *= 0.5
    data = linear_data(model)
    w, b = differences(model, data.labels)
    other = 1 - data.labels
    rows = np.arange(len(data))
    x = data.images.transpose(0, 3, 1, 2).reshape(len(data), -1) / 255
    exact = ((w[rows, other] * x).sum(1) + b[rows, other]) / np.linalg.norm(w[rows, other], axis=1)
    record, images = make_set(model, data, rows, resolve("CWL2"), EPS, 0, source="S1", folder=tmp_path)
    found = np.sqrt(((images[:].astype(float) - data.images.astype(float)) ** 2).reshape(len(data), -1).sum(1)) / 255
    attacked = exact > 0
    assert record.target_accuracy == 0 and record.n_attacked == attacked.sum()
    assert record.l2_median == pytest.approx(np.median(found[attacked]))
    assert (found[attacked] >= exact[attacked] - 1e-6).all(), "nearer than the boundary, yet counted as fooled"
    assert np.median(found[attacked] / exact[attacked]) < 1.1


def test_square_finds_a_small_l2_distance_by_queries_alone(tmp_path: Path) -> None:
    """No image nearer than the boundary, most at less than five times its distance (random weights are a square's worst case)."""
    model = linear_model(2, side=8)
    data = linear_data(model, n=40, wrong=0, side=8)
    with torch.no_grad():
        logits = model(to_tensor(data.images))
        apart = (logits[:, 0] - logits[:, 1]).abs()
        exact = (apart / (model[1].weight[0] - model[1].weight[1]).norm()).numpy()  # type: ignore[index,operator]
    record, images = make_set(model, data, np.arange(len(data)), resolve("square-l2-2000"), EPS, 0, source="S4", folder=tmp_path)
    with torch.no_grad():
        fooled = model(to_tensor(images[:])).argmax(1).numpy() != data.labels
    found = np.linalg.norm((images[:].astype(float) - data.images).reshape(len(data), -1), axis=1) / 255
    assert record.norm == "L2" and record.target_accuracy == 1 - fooled.mean()
    assert fooled.mean() >= 0.9
    assert (found[fooled] >= exact[fooled]).all()
    assert np.median(found[fooled] / exact[fooled]) < 5
    assert record.queries.largest <= 2000


@pytest.mark.parametrize(("height", "width"), [(12, 12), (14, 14), (24, 24), (24, 40), (64, 96), (96, 64), (60, 6)])
def test_square_l2_takes_images_of_any_size(height: int, width: int) -> None:
    """The library lays its first squares in a grid, which ends outside of some of these."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * height * width, 2)).eval()
    images = torch.full((2, 3, height, width), 0.5)
    with torch.no_grad():
        model[1].weight.normal_()
        model[1].bias += torch.tensor([0.5, 0.0]) - model(images[:1])[0]
    search = NearestSearch(model, images, model(images).argmax(1), 0.0, [0, 1])
    square_l2(search, steps=300)
    with torch.no_grad():
        fooled = model(search.best).argmax(1) != search.labels
    assert search.best.shape == images.shape and search.queries.max() <= 300
    assert torch.equal(fooled, search.distance.isfinite()) and fooled.all()


def test_the_worst_case_is_exact_and_only_survivors_are_attacked(monkeypatch: pytest.MonkeyPatch) -> None:
    model = linear_model(2)
    data = without_ties(model, linear_data(model), 8)
    robust = smallest_margin(model, data, 8) > 0
    monkeypatch.setattr(batch, "CLOSE", -1)  # no second look
    handed = []
    real = apgd.apgd_ce
    monkeypatch.setattr(apgd, "apgd_ce", lambda search, *, steps: handed.append(len(search.images)) or real(search, steps=steps))
    result = worst_case(model, data, np.arange(len(data)), [resolve("fgsm"), resolve("apgd-ce")], EPS, 0, batch=16)
    np.testing.assert_array_equal(result.survives, robust)
    assert list(result.accuracy) == ["clean", "fgsm", "apgd-ce"]
    assert sum(handed) == robust.sum(), "one FGSM step is exact here: only robust images are left for the next attack"
    assert max(handed) == 16, "survivors are gathered into full batches"


def test_a_worst_case_without_survivors_returns_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = linear_model(2)
    data = linear_data(model, wrong=120)
    monkeypatch.setattr(apgd, "apgd_ce", lambda *_, **__: pytest.fail("attacked an image that was wrong already"))
    result = worst_case(model, data, np.arange(len(data)), [resolve("apgd-ce")], EPS, 0)
    assert result.accuracy == {"clean": 0.0, "apgd-ce": 0.0}
