"""Which variations of training images are used: where the label is a side or a place, mirroring or shifting is left out, and said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data.dataset import Dataset
from harness.data.load import load_data
from harness.models.architectures import build
from harness.models.load import load_twin
from harness.training.augmentation import PROBES, Augmentation, augment, check
from harness.training.card import remarks, train_with_card
from harness.training.recipe import Recipe, Stage
from harness.training.train import Training, allowed

pytestmark = pytest.mark.slow(80)

STAGE = Stage(name="s", objective="standard", epochs=1, lr=0.1, holdout=100)


def squares(kind: str, n: int, seed: int = 0) -> Dataset:
    """Noise of 16 x 16 pixels with a bright square: the class is its side, its height, or whether it is there, in the corner."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = rng.integers(20, 60, (n, 32, 32, 3))
    for image, label in zip(images, labels, strict=True):
        free = int(rng.integers(2, 22))
        top, left = {"side": (free, 4 + 16 * label), "height": (3 + 18 * label, free), "corner": (0, 0)}[kind]
        size = 8 if kind != "corner" else 3 * int(label)
        image[top : top + size, left : left + size] += 150
    return Dataset(kind, images[:, ::2, ::2].clip(0, 255).astype(np.uint8), labels)


@pytest.mark.parametrize(("kind", "flip", "crop"), [("side", False, 4), ("height", True, 4), ("corner", True, 0)])
def test_a_variation_that_changes_the_label_is_left_out_and_said(
    kind: str, flip: bool, crop: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found = allowed([STAGE], squares(kind, 300))
    assert (found.flip, found.crop) == (flip, crop)
    said = capsys.readouterr().err
    assert ("mirrored images do not keep their label" in said, "shifted images do not keep" in said) == (not flip, not crop)
    assert len(found.findings) == (not flip) + (not crop)


def test_the_same_images_are_asked_about_once() -> None:
    first, trained = allowed([STAGE], squares("side", 300)), dict(PROBES)
    assert allowed([STAGE], squares("side", 300)) == first and trained == PROBES
    allowed([STAGE], squares("side", 300, seed=1))
    assert len(PROBES) > len(trained)


def test_one_class_among_many_is_enough() -> None:
    """Eight classes that mirroring leaves alone, and two that it exchanges."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 10
    images = rng.integers(20, 60, (400, 32, 32, 3))
    for image, label in zip(images, labels, strict=True):
        if label < 8:
            image[4 * label : 4 * label + 4, 4:28] += 150
        else:
            image[4:28, 2 if label == 8 else 22 : 10 if label == 8 else 30] += 150
    found = allowed([STAGE], Dataset("signs", images[:, ::2, ::2].clip(0, 255).astype(np.uint8), labels))
    assert not found.flip and "class " in found.findings[0]


def test_a_few_images_that_mirroring_gives_to_another_class_are_enough() -> None:
    """One in five of two classes out of ten is a sign for left or right: far too few for the accuracy of all, or of their class."""
    rng = np.random.default_rng(0)
    labels, sign = np.arange(1200) % 10, rng.random(1200) < 0.2
    images = rng.integers(20, 60, (1200, 32, 32, 3))
    for image, label, is_sign in zip(images, labels, sign, strict=True):
        if is_sign and label >= 8:
            image[4:28, 2 if label == 8 else 22 : 10 if label == 8 else 30] += 150
        else:
            image[3 * label : 3 * label + 3, 4:28] += 150
    signs = Dataset("signs", images[:, ::2, ::2].clip(0, 255).astype(np.uint8), labels)
    stage = STAGE.model_copy(update={"crop": 0})
    found = check([stage], signs.subset(np.arange(600)), signs.subset(np.arange(600, 1200)), None, "it")
    assert not found.flip and "stand for another class when mirrored" in found.findings[0]


@pytest.mark.parametrize("judge", ["resnet8", None])
def test_photographs_may_be_mirrored_and_shifted(judge: str | None) -> None:
    held, train = load_data("cifar10-sample", input_shape=None, classes=None, seed=0)
    if judge is None:  # a network of the check's own takes a quarter of the pixels too
        held, train = (replace(data, images=data.images[:, ::2, ::2].copy()) for data in (held, train))
    network = None if judge is None else load_twin(judge).module
    found = check([STAGE], train, held, network, "it")
    assert (found.flip, found.crop, found.findings) == (True, 4, ())


def test_what_cannot_be_learnt_is_said_to_be_unchecked() -> None:
    rng = np.random.default_rng(0)
    noise = Dataset("noise", rng.integers(0, 255, (300, 16, 16, 3), dtype=np.uint8), np.arange(300) % 3)
    found = allowed([STAGE], noise)
    assert found.flip and found.crop and "could not be checked" in found.findings[0]


def test_the_recipe_has_the_last_word() -> None:
    told = STAGE.model_copy(update={"flip": True, "crop": 0})
    assert allowed([told], squares("side", 300)) == Augmentation()
    training = Training(told, squares("side", 300), build("resnet8", 2), augmentation=Augmentation(flip=False, crop=4))
    assert (training.augmentation.flip, training.augmentation.crop) == (True, 0)


def test_images_stay_as_they_are_where_nothing_is_varied() -> None:
    x = torch.rand(5, 3, 8, 8)
    assert torch.equal(augment(x, torch.Generator(), Augmentation(flip=False, crop=0)), x)


def test_a_training_says_what_it_did_and_learns_sides(tmp_path: Path) -> None:
    data = squares("side", 300)
    for name, part in (("train", data), ("test", squares("side", 40, seed=1))):
        np.savez(tmp_path / f"{name}.npz", images=part.images, labels=part.labels)
    recipe = {"name": "sides", "description": "d", "arch": "resnet8", "claim": "1/255", "objective": "standard", "epochs": 6, "lr": 0.1,
              "batch": 25, "holdout": 50, "average": 0.8, "bf16": False}  # fmt: skip
    Recipe(**recipe)
    (tmp_path / "r.toml").write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in recipe.items()))
    card_file = train_with_card(tmp_path / "r.toml", str(tmp_path / "train.npz"), str(tmp_path / "test.npz"), tmp_path / "out")
    assert card_file is not None
    card = json.loads(card_file.read_text())
    assert card["augmentation"]["flip"] is False and card["augmentation"]["crop"] == 4
    assert card["measured"]["clean"]["accuracy"] > 0.9 and card["remarks"] == []


def test_accuracy_at_chance_is_remarked(capsys: pytest.CaptureFixture[str]) -> None:
    test = squares("side", 100)
    figures = {"clean": {"accuracy": 0.55, "n": 100, "ci95": (0.45, 0.64)}}
    assert "no better than chance" in remarks(figures, test)[0]
    assert "no better than chance" in capsys.readouterr().err
    undone = {"pgd": (2, 100), "apgd-dlr": (18, 133)}
    [told] = remarks({"clean": {"accuracy": 0.9, "n": 100, "ci95": (0.82, 0.95)}, "undone by rounding": undone}, test)
    assert told.startswith("rounding to bytes undoes the success of apgd-dlr of 18 of 133 images.")
    assert remarks({"clean": {"accuracy": 0.65, "n": 100, "ci95": (0.55, 0.74)}}, test) == []
