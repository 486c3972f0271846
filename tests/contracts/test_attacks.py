"""What every attack of the table must keep to. One table; a new attack is tested by being in it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.attacks.access import Access
from harness.attacks.batch import Panel, attack_batch
from harness.attacks.clean import judge
from harness.attacks.gradient import frozen_eval
from harness.attacks.parts import load_set
from harness.attacks.search import NearestSearch, Search
from harness.attacks.sets import make_set
from harness.attacks.table import ATTACKS, Attack, resolve
from harness.data.dataset import Dataset, to_tensor
from harness.records import AttackRecord
from harness.stack import ImageStack

pytestmark = pytest.mark.slow(75)

EPS = Fraction(8, 255)
INDEX = np.arange(3, 27)
FEW = 20  # steps, where the table has more
QUERIES = {"square": 100, "square-warm": 100, "square-l2": 120, "hopskipjump": 150, "autoattack": 2}  # fewer than this are no search


def short(name: str) -> str:
    attack = ATTACKS[name]
    return attack.with_steps(min(attack.steps, QUERIES.get(name, FEW))).name


NAMES = [*map(short, ATTACKS), "apgd-ce-7"]


def subject(channels: int = 3, classes: int = 5) -> tuple[nn.Module, Dataset]:
    """A convolutional network with random weights, and 30 images labelled as it sees them, every sixth otherwise."""
    torch.manual_seed(channels + classes)
    model = nn.Sequential(
        *(nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Dropout(0.5), nn.Linear(128, classes)),
    )
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, channels), dtype=np.uint8)
    model(to_tensor(images))  # statistics for the batch norm
    model.eval()
    with torch.no_grad():
        model[-1].bias -= model(to_tensor(images)).mean(0)
        labels = model(to_tensor(images)).argmax(1).numpy()
    labels[::6] = (labels[::6] + 1) % classes
    return model, Dataset("random", images, labels)


@pytest.fixture(params=NAMES)
def attack(request: pytest.FixtureRequest) -> Attack:
    return resolve(request.param)


@dataclass(frozen=True)
class Made:
    """A set of `subject()`, seed 0, in batches of ten."""

    folder: Path
    record: AttackRecord
    images: ImageStack


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Attack], Made]:
    """By each attack, made at the first question."""

    @cache
    def make(attack: Attack) -> Made:
        folder = tmp_path_factory.mktemp("made") / "adversarial"
        model, data = subject()
        return Made(folder, *make_set(model, data, INDEX, attack, EPS, 0, source="S1", folder=folder, batch=10))

    return make


@pytest.fixture
def made(attack: Attack, made_once: Callable[[Attack], Made]) -> Made:
    return made_once(attack)


def test_a_set_keeps_to_the_contract(attack: Attack, made: Made) -> None:
    model, data = subject()
    record, stored = made.record, made.images
    images, clean, labels = stored[:], data.images[INDEX], data.labels[INDEX]
    moved = np.abs(images.astype(int) - clean.astype(int)).reshape(len(INDEX), -1)

    assert images.dtype == np.uint8 and images.shape == clean.shape
    if attack.bounded:
        assert moved.max() <= 8 and record.eps_exact == "8/255"
    else:
        assert record.eps_exact == "0"
    wrong = INDEX % 6 == 0
    assert (moved[wrong] == 0).all(), "an image that the model has wrong was attacked"
    assert moved[~wrong].any()

    right, margin = judge(model, images, labels)
    assert (margin <= judge(model, clean, labels)[1] + 1e-5).all(), "worse than the clean image"
    assert record.target_accuracy == (right & ~wrong).mean()
    assert (record.n, record.n_attacked) == (len(INDEX), (~wrong).sum())
    assert record.linf_max == moved.max() / 255
    assert record.l2_mean == pytest.approx(np.sqrt((moved[~wrong] ** 2.0).sum(1)).mean() / 255)
    assert (record.l2_median is None) == (right | wrong).all()
    assert record.queries.median >= 2 and record.queries.largest >= record.queries.median
    assert record.n_attacked * 2 <= record.queries.total <= record.n_attacked * record.queries.largest

    again, index, stored_labels = load_set(made.folder.parent / record.file, record.set_sha256)
    np.testing.assert_array_equal(again[:], images)
    np.testing.assert_array_equal(index, INDEX)
    np.testing.assert_array_equal(stored_labels, labels)
    assert [path.name for path in made.folder.iterdir()] == [Path(record.file).name], "parts were left behind"


def test_its_entry_says_whether_it_begins_where_it_is_told(attack: Attack, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not begin there would make a shorter search for nothing, and what it found by that be kept."""
    model, data = subject()
    told: list[bool] = []

    def start(self: Search, *, touching: bool = False) -> Tensor:
        told.append(True)
        return self.images

    monkeypatch.setattr(Search, "start", start)
    few = slice(1, 4)
    attack_batch(model, model, data.images[few], data.labels[few], attack, 8, range(3), np.ones(3, np.bool_), first=data.images[few])
    assert bool(told) == attack.takes_start


class Binarized(nn.Module):
    """Looks at black and white: a comparison has no gradient, and none of the logits leads back to the images."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network((images > 0.5).float())
        return logits


GRADIENT = [name for name in NAMES if resolve(name).access is Access.GRADIENT]


@pytest.mark.parametrize("name", GRADIENT)
def test_a_network_without_any_gradient_is_attacked_and_its_gradient_is_zero(name: str, tmp_path: Path) -> None:
    network, data = subject()
    model, index = Binarized(network).eval(), INDEX[:4]
    with torch.no_grad():
        data = Dataset("random", data.images, model(to_tensor(data.images)).argmax(1).numpy())
    record, _ = make_set(model, data, index, resolve(name), EPS, 0, source="S1", folder=tmp_path, batch=4)
    assert (record.n_attacked, record.zero_gradient_share) == (len(index), 1)


def test_the_seed_decides(attack: Attack, made: Made, tmp_path: Path) -> None:
    model, data = subject()
    hashes = []
    for seed in (0, 1):
        torch.manual_seed(5 + seed)  # must not matter
        before = torch.random.get_rng_state()
        record, _ = make_set(model, data, INDEX, attack, EPS, seed, source="S1", folder=tmp_path / str(seed), batch=10)
        assert torch.equal(torch.random.get_rng_state(), before), "the caller's random state was touched"
        hashes.append(record.set_sha256)
    assert hashes[0] == made.record.set_sha256
    assert (hashes[0] != hashes[1]) == attack.random


def test_the_module_is_left_as_it_was(attack: Attack) -> None:
    """The attack alone, on a module in training mode with gradients of its own."""
    model, data = subject()
    model.train()
    model[1].eval()
    model[0].bias.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state = copy.deepcopy(model.state_dict())
    images, labels = to_tensor(data.images[:6]), torch.from_numpy(data.labels[:6])
    images_before, labels_before = images.clone(), labels.clone()

    search = (Search if attack.bounded else NearestSearch)(model, images, labels, 8 / 255, range(6))
    with frozen_eval(model):
        attack.function(search)

    assert search.best.shape == images.shape and search.best.dtype == torch.float32 and not search.best.requires_grad
    assert torch.equal(images, images_before) and torch.equal(labels, labels_before)
    assert [part.training for part in model] == [True, False, True, True, True, True, True]
    assert [p.requires_grad for p in model.parameters()] == [True, False, True, True, True, True]
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters() if p.grad is not None)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), f"{name} changed (a batch norm in training mode?)"


def test_a_model_in_training_mode_is_attacked_in_evaluation_mode(attack: Attack, made: Made, tmp_path: Path) -> None:
    model, data = subject()
    model.train()
    loud, _ = make_set(model, data, INDEX, attack, EPS, 0, source="S1", folder=tmp_path, batch=10)
    assert loud.set_sha256 == made.record.set_sha256
    assert all(part.training for part in model.modules())


def test_survivors_are_respected(attack: Attack, tmp_path: Path) -> None:
    model, data = subject()
    survivors = INDEX % 2 == 1
    record, images = make_set(model, data, INDEX, attack, EPS, 0, source="S1", folder=tmp_path, batch=10, survivors=survivors)
    np.testing.assert_array_equal(images[:][~survivors], data.images[INDEX[~survivors]])
    assert record.n_attacked == (survivors & (INDEX % 6 != 0)).sum()
    assert record.target_accuracy <= record.n_attacked / record.n, "an image that was fooled before counts as right"


@pytest.mark.parametrize(("channels", "classes", "n"), [(1, 5, 8), (3, 2, 8), (3, 5, 1), (1, 2, 1)])
def test_grey_images_two_classes_and_a_batch_of_one(attack: Attack, tmp_path: Path, channels: int, classes: int, n: int) -> None:
    model, data = subject(channels, classes)
    record, images = make_set(model, data, INDEX[1 : n + 1], attack, EPS, 0, source="S1", folder=tmp_path, batch=1 if n == 1 else 5)
    assert images.shape == (n, 8, 8, channels)
    assert record.n_attacked >= 1


def test_a_radius_of_zero_changes_no_byte(attack: Attack, tmp_path: Path) -> None:
    if not attack.bounded:
        pytest.skip("takes no radius")
    model, data = subject()
    record, images = make_set(model, data, INDEX, attack, Fraction(0), 0, source="gate", folder=tmp_path, batch=10)
    np.testing.assert_array_equal(images[:], data.images[INDEX])
    assert record.target_accuracy == (INDEX % 6 != 0).mean()


def test_every_image_is_attacked_where_another_model_may_have_it_right(attack: Attack, made: Made, tmp_path: Path) -> None:
    """Those the model has wrong are driven further from their label; a minimum-norm attack has found what it looks for there."""
    model, data = subject()
    panel = Panel((), np.zeros((len(INDEX), 0), np.bool_)) if attack.bounded else None
    record, images = make_set(model, data, INDEX, attack, EPS, 0, source="S1", folder=tmp_path, batch=10, panel=panel)
    clean, labels, wrong = data.images[INDEX], data.labels[INDEX], INDEX % 6 == 0
    before, after = judge(model, clean, labels)[1], judge(model, images[:], labels)[1]
    assert (after <= before + 1e-5).all()
    assert record.n_attacked == (len(INDEX) if attack.bounded else (~wrong).sum())
    if attack.bounded and not attack.stops and not attack.continues:  # which have nothing here to go on from
        assert (after[wrong] < before[wrong]).all()
    assert record.target_accuracy == pytest.approx(made.record.target_accuracy, abs=0.1), "an image that was wrong at first counts as right"
