"""`--data`: every form loads; every bad input is one clear line."""

from __future__ import annotations

import hashlib
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10

from harness.data import cifar10
from harness.data.image_folder import read_image
from harness.data.load import load_all, load_data, peek_shape
from harness.errors import UsageError

N = 30
IMAGES = np.random.default_rng(0).integers(0, 256, (N, 8, 8, 3), dtype=np.uint8)
LABELS = np.arange(N) % 3


def npz(folder: Path, **arrays: Any) -> str:
    path = folder / "mine.npz"
    np.savez(path, **arrays)
    return str(path)


def load(name: str, shape: tuple[int, int, int] | None = (3, 8, 8), classes: int | None = 3) -> tuple[Any, Any]:
    return load_data(name, input_shape=shape, classes=classes, seed=0)


def test_an_npz_is_split_into_test_and_calibration(tmp_path: Path) -> None:
    test, calibration = load(npz(tmp_path, images=IMAGES, labels=LABELS.astype(np.int32)))
    assert (test.name, len(test), len(calibration)) == ("mine", 24, 6)
    assert np.bincount(calibration.labels).tolist() == [2, 2, 2]


def test_an_npz_s_own_calibration_images_are_used_less_the_test_images_among_them(tmp_path: Path) -> None:
    extra = np.concatenate([IMAGES[:2], 255 - IMAGES[:5]])
    test, calibration = load(npz(tmp_path, images=IMAGES, labels=LABELS, calibration_images=extra, class_names=["a", "b", "c"]))
    assert np.array_equal(test.images, IMAGES)
    assert np.array_equal(calibration.images, 255 - IMAGES[:5])
    assert test.class_names == ("a", "b", "c")


def test_grey_images_stay_grey(tmp_path: Path) -> None:
    test, _ = load(npz(tmp_path, images=IMAGES[..., :1], labels=LABELS), shape=(1, 8, 8))
    assert test.images.shape == (24, 8, 8, 1)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_size_of_an_npz_is_read_without_its_images(save: Callable[..., None], channels: int, tmp_path: Path) -> None:
    images = np.zeros((5, 6, 7, channels), np.uint8)
    save(tmp_path / "mine.npz", images=images, labels=LABELS[:5])
    assert peek_shape(str(tmp_path / "mine.npz")) == (channels, 6, 7)


def test_the_size_of_a_huge_npz_is_read_from_its_header(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive, archive.open("images.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (10**12, 224, 160, 3)})
    assert peek_shape(str(tmp_path / "huge.npz")) == (3, 224, 160)


def test_the_size_of_named_data_is_that_of_its_images() -> None:
    test, _ = load("cifar10-sample", shape=None, classes=None)
    assert peek_shape("cifar10-sample") == peek_shape("cifar10") == (3, *test.images.shape[1:3])


def test_data_without_a_size_has_none(tmp_path: Path) -> None:
    assert peek_shape(str(tmp_path)) is None
    for write in (objects, truncated, one_array, arrays(images=IMAGES.transpose(0, 3, 1, 2)), raw(b""), raw(b"PK\x03\x04")):
        assert peek_shape(write(tmp_path)) is None
    assert peek_shape(npz(tmp_path, labels=LABELS)) is None
    assert peek_shape(str(tmp_path / "absent.npz")) is None


def objects(folder: Path) -> str:
    return npz(folder, images=np.array([{"a": 1}], dtype=object), labels=LABELS)


def raw(content: bytes) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        (folder / "mine.npz").write_bytes(content)
        return str(folder / "mine.npz")

    return write


def truncated(folder: Path) -> str:
    path = Path(npz(folder, images=IMAGES, labels=LABELS))
    path.write_bytes(path.read_bytes()[:-200])
    return str(path)


def flipped(folder: Path) -> str:
    path = Path(npz(folder, images=IMAGES, labels=LABELS))
    content = bytearray(path.read_bytes())
    content[1000] ^= 255
    path.write_bytes(content)
    return str(path)


def one_array(folder: Path) -> str:
    with (folder / "mine.npz").open("wb") as file:
        np.save(file, IMAGES)
    return str(folder / "mine.npz")


def arrays(**values: Any) -> Callable[[Path], str]:
    return lambda folder: npz(folder, **{"images": IMAGES, "labels": LABELS, **values})


def other_file(folder: Path) -> str:
    (folder / "data.csv").write_text("1,2\n")
    return str(folder / "data.csv")


BAD = {
    "missing name": (lambda folder: "cifar10-smaple", r"no data 'cifar10-smaple'\. Did you mean cifar10-sample\?"),
    "a name too long for a file": (lambda folder: "a" * 5000, "cannot read data 'aaa.*': File name too long"),
    "missing file": (lambda folder: str(folder / "none.npz"), "none.npz: No such file"),
    "a folder named npz": (lambda folder: str(folder), "has no class folders"),
    "another suffix": (other_file, "neither an .npz nor a folder"),
    "garbage": (raw(b"not a zip at all"), "holds pickled Python objects|not a readable .npz"),
    "empty file": (raw(b""), "not a readable .npz"),
    "a pickle": (raw(pickle.dumps([1, 2])), "pickled Python objects"),
    "truncated": (truncated, "not a readable .npz"),
    "a flipped byte": (flipped, "not a readable .npz"),
    "a bare array": (one_array, "single .npy array"),
    "pickled arrays": (objects, "pickled Python objects, which are never loaded"),
    "wrong keys": (lambda folder: npz(folder, x=IMAGES, y=LABELS), "lacks images and labels; it holds x, y"),
    "unknown keys": (arrays(weights=LABELS), "unknown arrays weights"),
    "floats in [0, 1]": (arrays(images=IMAGES / 255), r"float64 .*Convert with \(images \* 255\)\.round\(\)"),
    "normalised floats": (arrays(images=IMAGES - 128.0), "undo the normalisation"),
    "int64 images": (arrays(images=IMAGES.astype(np.int64)), r"images are int64 .*expected uint8 \(n, height, width, 1 or 3\)"),
    "channels first": (arrays(images=IMAGES.transpose(0, 3, 1, 2)), r"channels-first: \.transpose\(0, 2, 3, 1\)"),
    "four channels": (arrays(images=np.zeros((N, 8, 8, 4), np.uint8)), r"expected uint8"),
    "no image": (arrays(images=IMAGES[:0], labels=LABELS[:0]), "hold no pixel"),
    "too few": (arrays(images=IMAGES[:4], labels=LABELS[:4]), "holds 4 images; at least 5"),
    "labels of another length": (arrays(labels=LABELS[:-1]), r"labels are int64 \(29,\); expected integers \(30,\)"),
    "float labels": (arrays(labels=LABELS * 1.0), "labels are float64"),
    "one-hot labels": (arrays(labels=np.eye(3, dtype=np.int64)[LABELS]), r"labels are int64 \(30, 3\)"),
    "a negative label": (arrays(labels=LABELS - 1), "label -1 at index 0 is negative"),
    "a label out of range": (arrays(labels=LABELS + 1), "label 3 at index . is out of range; the model has 3 classes, 0..2"),
    "other classes": (arrays(class_names=["cat", "dog"]), "has 2 classes, the model 3"),
    "another size": (arrays(images=IMAGES[:, :4]), "images of 3x4x8, the model takes 3x8x8"),
    "other channels": (arrays(images=IMAGES[..., :1]), "images of 1x8x8, the model takes 3x8x8"),
    "float calibration": (arrays(calibration_images=IMAGES / 255), "calibration_images are float64"),
    "calibration of another size": (arrays(calibration_images=IMAGES[:, :4]), "calibration images are"),
    "calibration on the test images": (arrays(calibration_images=IMAGES), "every calibration image is also a test image"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data_is_one_clear_line(case: str, tmp_path: Path) -> None:
    make, message = BAD[case]
    with pytest.raises(UsageError, match=message) as caught:
        load(make(tmp_path))
    assert "\n" not in str(caught.value)


class Bomb:
    """What a hostile file would run when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_in_an_npz_is_never_run(tmp_path: Path) -> None:
    name = npz(tmp_path, images=np.array([Bomb(tmp_path / "ran")], dtype=object), labels=LABELS)
    with pytest.raises(UsageError, match="pickled"):
        load(name)
    assert not (tmp_path / "ran").exists()


def folder_of(root: Path, sizes: tuple[int, int] = (12, 10)) -> Path:
    for label, name in enumerate(("cat", "ant", "bee")):
        (root / name).mkdir(parents=True)
        for number in range(5):
            pixels = np.full((*sizes, 3), 40 * label + number, np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def test_an_image_folder_numbers_its_classes_by_name(tmp_path: Path) -> None:
    test, calibration = load(str(folder_of(tmp_path / "zoo")))
    assert (test.name, test.class_names) == ("zoo", ("ant", "bee", "cat"))
    assert test.images.shape == (12, 8, 8, 3)
    assert len(calibration) == 3
    assert {int(image[0, 0, 0]) // 40 for image in test.images[test.labels == 2]} == {0}, "cat was written as class 0"


def test_an_image_is_scaled_to_cover_and_cropped_at_its_centre(tmp_path: Path) -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 200
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    assert np.array_equal(read_image(tmp_path / "wide.png", (3, 10, 10)), pixels[:, 10:20])
    assert read_image(tmp_path / "wide.png", (1, 5, 7)).shape == (5, 7, 1)
    assert read_image(tmp_path / "wide.png", (3, 40, 20)).shape == (40, 20, 3)
    assert read_image(tmp_path / "wide.png", None).shape == (10, 30, 3)


def test_links_that_leave_the_folder_are_left_out(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "zoo")
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    (root / "ant" / "link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "elsewhere").mkdir()
    (root / "zebra").symlink_to(tmp_path / "elsewhere")
    test, calibration = load(str(root))
    assert len(test) + len(calibration) == 15
    assert test.class_names == ("ant", "bee", "cat")


def corrupt(root: Path) -> None:
    (root / "bee" / "2.png").write_bytes((root / "bee" / "2.png").read_bytes()[:40])


def not_an_image(root: Path) -> None:
    (root / "bee" / "2.png").write_text("hello")


def empty_class(root: Path) -> None:
    (root / "dog").mkdir()


def another_class(root: Path) -> None:
    (root / "dog").mkdir()
    Image.new("RGB", (8, 8)).save(root / "dog" / "0.png")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (corrupt, r"bee/2\.png"),
        (not_an_image, r"cannot read image .*bee/2\.png"),
        (empty_class, "dog holds no image"),
        (another_class, "has 4 classes, the model 3"),
    ],
)
def test_a_bad_folder_is_one_clear_line(harm: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    harm(folder_of(tmp_path / "zoo"))
    with pytest.raises(UsageError, match=message):
        load(str(tmp_path / "zoo"))


def test_images_of_several_sizes_need_a_model_s_size(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "zoo")
    Image.new("RGB", (9, 9)).save(root / "bee" / "9.png")
    with pytest.raises(UsageError, match="images of several sizes"):
        load(str(root), shape=None)


def test_cifar10_without_a_network_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(UsageError, match=r"cannot get CIFAR-10 into .*cifar10-sample") as caught:
        load("cifar10")
    assert "\n" not in str(caught.value)


def small_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's own folder form with 60 random images a batch; the checksums it expects are set to match."""
    base = root / CIFAR10.base_folder
    base.mkdir(parents=True)
    rng = np.random.default_rng(0)

    def write(name: str, content: dict[str, Any]) -> list[str]:
        (base / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((base / name).read_bytes()).hexdigest()]

    def batch() -> dict[str, Any]:
        return {"data": rng.integers(0, 256, (600, 3072), dtype=np.uint8), "labels": [i % 10 for i in range(600)]}

    monkeypatch.setattr(CIFAR10, "train_list", [write("data_batch_1", batch())])
    monkeypatch.setattr(CIFAR10, "test_list", [write("test_batch", batch())])
    name, md5 = write("batches.meta", {"label_names": list(cifar10.CLASSES)})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": md5})


def test_cifar10_calibrates_on_its_training_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    small_cifar10(cifar10.cache_folder(), monkeypatch)
    test, calibration = load("cifar10", shape=(3, 32, 32), classes=10)
    assert (len(test), len(calibration)) == (600, 512)
    train = load_all("cifar10")
    assert len(train) == 600
    assert {image.tobytes() for image in calibration.images} <= {image.tobytes() for image in train.images}


def test_training_data_is_the_whole_npz(tmp_path: Path) -> None:
    assert len(load_all(npz(tmp_path, images=IMAGES, labels=LABELS))) == N


def test_training_data_of_another_form_is_refused() -> None:
    with pytest.raises(UsageError, match=r"training data 'cifar10-sample' is neither cifar10 nor an \.npz"):
        load_all("cifar10-sample")
