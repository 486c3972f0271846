"""The shipped sample is what its index says, and the script that made it is repeatable."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.data import make_sample, sample
from harness.data.load import load_data
from harness.data.split import contents, stratified
from harness.errors import UntrustedError, UsageError


def test_the_sample_is_stratified_disjoint_and_small() -> None:
    test, calibration = load_data("cifar10-sample", input_shape=(3, 32, 32), classes=10, seed=0)
    assert test.images.shape == (1000, 32, 32, 3)
    assert calibration.images.shape == (512, 32, 32, 3)
    assert (np.bincount(test.labels) == 100).all()
    assert set(np.bincount(calibration.labels)) == {51, 52}
    for n in (10, 50, 256):
        assert np.ptp(np.bincount(test.labels[:n], minlength=10)) <= 1
    assert len(set(contents(test.images)) | set(contents(calibration.images))) == 1512
    assert sum(path.stat().st_size for path in sample.FOLDER.glob("*.*")) <= 5_000_000


def test_the_index_names_its_source() -> None:
    index = json.loads(sample.INDEX.read_text())
    assert "Krizhevsky" in index["source"]["citation"]
    for part, n in (("test", 1000), ("calibration", 512)):
        assert len(set(index[part]["indices"])) == len(index[part]["labels"]) == n


def test_the_images_are_the_data_set_s_own() -> None:
    """foolbox ships the first twenty test images: those that the sample holds must be equal to the pixel."""
    import foolbox
    from PIL import Image

    index = json.loads(sample.INDEX.read_text())
    shipped = {int(path.stem.split("_")[1]): path for path in (Path(foolbox.__file__).parent / "data").glob("cifar10_*.png")}
    test, _ = sample.load_sample()
    common = [(place, shipped[number]) for place, number in enumerate(index["test"]["indices"]) if number in shipped]
    assert common
    for place, path in common:
        assert np.array_equal(test.images[place], np.asarray(Image.open(path).convert("RGB")))


def test_a_changed_sheet_is_noticed(tmp_path: Path) -> None:
    for path in sample.FOLDER.glob("*.*"):
        shutil.copy(path, tmp_path)
    shutil.copy(tmp_path / "calibration.png", tmp_path / "test.png")
    index = json.loads((tmp_path / "sample.json").read_text())
    index["test"]["labels"] = index["calibration"]["labels"]
    (tmp_path / "sample.json").write_text(json.dumps(index))
    with pytest.raises(UntrustedError, match=r"test\.png changed since it was shipped"):
        sample.load_sample(tmp_path)


def full(path: Path, per_class: int = 120) -> Path:
    """A file of the full data set's form, with random images; the first test image occurs in the training set too."""
    rng = np.random.default_rng(0)
    labels = np.arange(10 * per_class) % 10
    train, test = (rng.integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8) for _ in range(2))
    train[stratified(labels, 1, make_sample.SEED)] = test[stratified(labels, 1, make_sample.SEED)]
    np.savez(path, train_images=train, train_labels=labels, test_images=test, test_labels=labels)
    return path


def test_making_the_sample_round_trips_and_repeats(tmp_path: Path) -> None:
    parts = make_sample.read_full(full(tmp_path / "full.npz"))
    for name in ("a", "b"):
        make_sample.make(*parts, tmp_path / name)
    test, calibration = sample.load_sample(tmp_path / "a")
    assert [half.sha256 for half in sample.load_sample(tmp_path / "b")] == [test.sha256, calibration.sha256]
    index = json.loads((tmp_path / "a" / "sample.json").read_text())
    assert np.array_equal(test.images, parts[1].images[index["test"]["indices"]])
    assert np.array_equal(calibration.images, parts[0].images[index["calibration"]["indices"]])
    assert not set(contents(test.images)) & set(contents(calibration.images))


def test_the_full_data_set_must_be_whole(tmp_path: Path) -> None:
    np.savez(tmp_path / "half.npz", train_images=np.zeros(1))
    with pytest.raises(UsageError, match=r"lacks train_labels, test_images, test_labels; it holds train_images"):
        make_sample.read_full(tmp_path / "half.npz")
