"""`--data`: every form loads; every bad input is one clear line."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
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
    assert [remark for remark in test.remarks if "2 of its 7 calibration images are test images too" in remark]
    fresh, _ = load(npz(tmp_path, images=IMAGES, labels=LABELS, calibration_images=255 - IMAGES[:5]))
    assert not [remark for remark in fresh.remarks if "calibration" in remark]


def test_class_names_in_bytes_are_text(tmp_path: Path) -> None:
    test, _ = load(npz(tmp_path, images=IMAGES, labels=LABELS, class_names=np.array(["a", "é".encode(), b"c"], "S")))
    assert test.class_names == ("a", "é", "c")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("cat bee ant", "mine: class 0 is 'ant', which is class 2 of the model"),
        ("ant Cat dog", "mine: class 2 is 'cat', which is class 1 of the model"),
        ("ANT bee cat", None),
        ("wasp bee cat", None),  # another word for it may be meant
        ("cat cat ant", "mine: class 0 is 'ant', which is class 2 of the model"),
        ("cat cat bee", "mine: class 1 is 'bee', which is class 2 of the model"),
        ("cat dog cat", None),
        ("", None),
    ],
)
def test_a_name_that_is_another_class_of_the_model_is_refused(model: str, words: str | None, tmp_path: Path) -> None:
    name = npz(tmp_path, images=IMAGES, labels=LABELS, class_names=["ant", "bee", "cat"])
    with pytest.raises(UsageError, match=words) if words else nullcontext():
        load_data(name, input_shape=(3, 8, 8), classes=3, seed=0, class_names=model.split())


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


def endless(folder: Path) -> str:
    with zipfile.ZipFile(folder / "mine.npz", "w") as archive:
        for name, shape in (("images", (10**12, 8, 8, 3)), ("labels", (10**12,))):
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return str(folder / "mine.npz")


def encrypted(folder: Path) -> str:
    path = Path(npz(folder, images=IMAGES, labels=LABELS))
    content = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := content.find(mark, at + 1)) >= 0:
            content[at + flags] |= 1
    path.write_bytes(content)
    return str(path)


def compressed_flipped(folder: Path) -> str:
    np.savez_compressed(folder / "mine.npz", images=IMAGES, labels=LABELS)
    content = bytearray((folder / "mine.npz").read_bytes())
    content[2000] ^= 255
    (folder / "mine.npz").write_bytes(content)
    return str(folder / "mine.npz")


def fifo(folder: Path) -> str:
    os.mkfifo(folder / "mine.npz")
    return str(folder / "mine.npz")


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
    "floats in [0, 1]": (arrays(images=IMAGES / 255), r"float64 .*In \[0, 1\]: \(images \* 255\)\.round\(\)"),
    "normalised floats": (arrays(images=IMAGES - 128.0), "undo the normalisation"),
    "16-bit images": (arrays(images=IMAGES.astype(np.uint16) * 257), r"uint16 .*white is 65535\): \(images // 257\)"),
    "half floats": (arrays(images=(IMAGES / 255).astype(np.float16)), r"float16 .*In \[0, 1\]"),
    "masks": (arrays(images=IMAGES > 9), r"bool .*astype\('uint8'\) \* 255"),
    "complex images": (arrays(images=IMAGES * 1j), r"complex128 .*expected uint8"),
    "int64 images": (arrays(images=IMAGES.astype(np.int64)), r"images are int64 .*expected uint8 \(n, height, width, 1 or 3\)"),
    "channels first": (arrays(images=IMAGES.transpose(0, 3, 1, 2)), r"channels-first: \.transpose\(0, 2, 3, 1\)"),
    "four channels": (arrays(images=np.zeros((N, 8, 8, 4), np.uint8)), r"expected uint8 .*an alpha channel\? Then images\[\.\.\., :3\]"),
    "no channels": (arrays(images=IMAGES[..., 0]), r"expected uint8 .*grey\? Then images\[\.\.\., None\]"),
    "no image": (arrays(images=IMAGES[:0], labels=LABELS[:0]), "hold no pixel"),
    "too few": (arrays(images=IMAGES[:4], labels=LABELS[:4]), "holds 4 images; at least 5"),
    "labels of another length": (arrays(labels=LABELS[:-1]), r"labels are int64 \(29,\); expected integers \(30,\)"),
    "an endless header": (endless, r"array images is uint8 \(1000000000000, 8, 8, 3\), .* bytes; it holds 0"),
    "encrypted": (encrypted, "not a readable .npz: .*encrypted"),
    "a compressed flipped byte": (compressed_flipped, "not a readable .npz"),
    "a label beyond any class": (arrays(labels=LABELS + 2**40), "is no class"),
    "labels from 1": (arrays(labels=LABELS + 1), r"Do they count from 1\? Then save labels - 1"),
    "a fifo": (fifo, "is not a file"),
    "a name with a zero byte": (lambda folder: "a\0b.npz", "null byte"),
    "float labels": (arrays(labels=LABELS * 1.0), r"labels are float64 .*: labels\.astype\('int64'\)"),
    "labels in a column": (arrays(labels=LABELS[:, None]), r"labels are int64 \(30, 1\); expected integers \(30,\): labels\.ravel\(\)"),
    "one-hot labels": (arrays(labels=np.eye(3, dtype=np.int64)[LABELS]), r"labels are int64 \(30, 3\).*one-hot\? Then labels\.argmax\(1\)"),
    "a negative label": (arrays(labels=LABELS - 1), "label -1 at index 0 is negative"),
    "a label out of range": (arrays(labels=LABELS + 1), "label 3 at index . is out of range; the model has 3 classes, 0..2"),
    "other classes": (arrays(class_names=["cat", "dog"]), "has 2 classes, the model 3"),
    "another size": (arrays(images=IMAGES[:, :4]), "images of 3x4x8, the model takes 3x8x8"),
    "other channels": (
        arrays(images=IMAGES[..., :1]),
        "takes 3x8x8 .*Give the grey images three equal channels",
    ),
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


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_only_the_wanted_images_of_an_npz_are_kept(save: Callable[..., None], order: Any, tmp_path: Path) -> None:
    many = np.random.default_rng(1).integers(0, 256, (900, 40, 40, 3), dtype=np.uint8)  # more than one block
    save(tmp_path / "mine.npz", images=np.array(many, order=order), labels=np.arange(900) % 3)
    wanted = np.array([700, 3, 5])
    whole, _ = load(str(tmp_path / "mine.npz"), shape=None)
    few, calibration = load_data(str(tmp_path / "mine.npz"), input_shape=None, classes=3, seed=0, choose=lambda labels: wanted)
    assert np.array_equal(few.images, whole.images[wanted]) and np.array_equal(few.labels, whole.labels[wanted])
    assert few.place(np.array([0, 2])).tolist() == [700, 5] and whole.place(wanted).tolist() == [700, 3, 5]
    assert len(calibration) == 180


def test_only_the_wanted_images_of_a_folder_are_opened(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "zoo")
    few, _ = load_data(str(root), input_shape=(3, 8, 8), classes=3, seed=0, choose=lambda labels: np.array([11]))
    whole, calibration = load(str(root))
    assert np.array_equal(few.images, whole.images[11:])
    unread = next(
        p for p in root.rglob("*.png") if not any((read_image(p, (3, 8, 8)) == i).all() for i in (*few.images, *calibration.images))
    )
    unread.write_text("no image")
    load_data(str(root), input_shape=(3, 8, 8), classes=3, seed=0, choose=lambda labels: np.array([11]))


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
    assert any(remark.startswith("2 links lead out of") for remark in test.remarks)


def test_links_to_folders_and_hidden_classes_are_left_out_and_told(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "zoo")
    (root / "ant" / "more").symlink_to(root / "bee")
    (root / "bee" / "gone.png").symlink_to(root / "nothing.png")
    (root / "cat" / "round").symlink_to(root)
    (root / ".net").mkdir()
    (root / "__MACOSX").mkdir()
    for name in (".net", "__MACOSX"):
        Image.new("RGB", (8, 8)).save(root / name / "0.png")
    test, calibration = load(str(root))
    assert len(test) + len(calibration) == 15
    assert "files left out: 3 links to folders, or to nothing, 2 hidden folders beside the class folders" in test.remarks


def test_files_that_are_left_out_are_told(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "zoo")
    picture = Image.new("RGB", (8, 8), (1, 2, 3))
    for number in range(3):
        picture.save(root / "bee" / f"{number}.gif")
    picture.save(root / "ant" / "photo.jfif", "JPEG")
    picture.save(root / "loose.png")
    (root / "ant" / "notes").write_text("a label")
    (root / "cat" / "._0.png").write_bytes(b"\0\5\x16\7")  # what macOS leaves on a stick
    (root / "cat" / ".ipynb_checkpoints").mkdir()
    picture.save(root / "cat" / ".ipynb_checkpoints" / "0-checkpoint.png")
    picture.save(root / "ant" / "film.png", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    test, calibration = load(str(root))
    assert len(test) + len(calibration) == 16
    kinds = "3 of the suffix .gif, 2 hidden, 1 without a suffix, 1 of the suffix .jfif, 1 beside the class folders"
    assert f"files left out: {kinds}" in test.remarks
    assert "1 of 16 images hold several pictures, of which the first is used" in test.remarks


def classes_of(root: Path, *names: str) -> Path:
    for label, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for number in range(5):
            Image.fromarray(np.full((8, 8, 3), 20 * label + number + 40, np.uint8)).save(root / name / f"{number}.png")
    return root


REMARKS: dict[str, tuple[tuple[str, ...], str | None]] = {
    "numbers as text": (("0", "1", "10", "2"), r"the folder '10' is class 2: names are sorted as text"),
    "numbers from 1": (("1", "2", "3"), r"the folder '1' is class 0\."),
    "numbers with a gap": (("0", "2", "3"), r"the folder '2' is class 1\."),
    "padded numbers": (("00", "01", "02"), None),
    "names with numbers": (("class1", "class10", "class2"), r"class 1 is 'class10', by numbers it would be 'class2'"),
    "padded names": (("n01", "n02", "n10"), None),
    "digits that are no numbers": (("m", "m²", "²"), None),
    "plain names": (("ant", "bee", "train"), None),  # a train is a class too, where its images are in it
}


@pytest.mark.parametrize("case", REMARKS)
def test_an_order_of_classes_that_may_surprise_is_told(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names, message = REMARKS[case]
    test, _ = load(str(classes_of(tmp_path / "zoo", *names)), classes=len(names))
    told = capsys.readouterr().err
    assert tuple(told.splitlines()) == tuple(f"harness: zoo: {remark}" for remark in test.remarks)
    assert re.search(message, told) if message else told == ""


ROOTS = {
    "train and val": (("train/cat", "train/dog", "val/cat", "val/dog"), r"holds train, val: .*--data .*/zoo/val$"),
    "Test beside a folder that is no part": (("Test/cat", "Test/dog", "extra"), r"holds Test: .*--data .*/zoo/Test$"),
    "one part": (("validation/cat", "validation/dog"), r"holds validation: .*--data .*/zoo/validation$"),
    "a folder too high": (("pets/cat", "pets/dog"), r"one folder, pets, with 2 folders inside \(cat, dog …\).*--data .*/zoo/pets$"),
    "two folders too high": (("pets/train/cat", "pets/test/cat"), r"--data .*/zoo/pets/test$"),
}


@pytest.mark.parametrize("case", ROOTS)
def test_the_root_of_a_data_set_is_refused_with_the_folder_that_is_meant(case: str, tmp_path: Path) -> None:
    names, message = ROOTS[case]
    with pytest.raises(UsageError, match=message):
        load(str(classes_of(tmp_path / "zoo", *names)), classes=2)


def test_the_same_folders_in_every_class_are_told(tmp_path: Path) -> None:
    test, _ = load(str(classes_of(tmp_path / "zoo", "2023/cat", "2023/dog", "2024/cat", "2024/dog")), classes=2)
    assert any("every class folder (2023, 2024 …) holds the same folders (cat, dog …)" in remark for remark in test.remarks)


ODD: dict[str, tuple[dict[str, Any], int, str]] = {
    "no class 0": ({"labels": LABELS + 1}, 4, "no image has label 0, labels go from 1 to 3"),
    "one output more": ({}, 4, "labels end at 2, the model has 4 classes, one more"),
    "copies": (
        {"images": np.concatenate([IMAGES[:15], IMAGES[:15]]), "calibration_images": IMAGES[15:]},
        3,
        "test images are copies of others",
    ),
    "images in [0, 1] as bytes": ({"images": IMAGES // 128}, 3, "the brightest value of all 24 images is 1 of 255"),
}


@pytest.mark.parametrize("case", ODD)
def test_what_is_odd_in_an_npz_is_told(case: str, tmp_path: Path) -> None:
    changed, classes, message = ODD[case]
    test, _ = load(arrays(**changed)(tmp_path), classes=classes)
    assert any(message in remark for remark in test.remarks)
    assert load("cifar10-sample", shape=(3, 32, 32), classes=10)[0].remarks == ()


def corrupt(root: Path) -> None:
    (root / "bee" / "2.png").write_bytes((root / "bee" / "2.png").read_bytes()[:40])


def not_an_image(root: Path) -> None:
    (root / "bee" / "2.png").write_text("hello")


def empty_class(root: Path) -> None:
    (root / "dog").mkdir()


def linked_images(root: Path) -> None:
    (root / "dog").mkdir()
    Image.new("RGB", (8, 8)).save(root.parent / "outside.png")
    (root / "dog" / "0.png").symlink_to(root.parent / "outside.png")


def linked_classes(root: Path) -> None:
    root.rename(root.parent / "real")
    root.mkdir()
    for entry in (root.parent / "real").iterdir():
        (root / entry.name).symlink_to(entry)


def another_class(root: Path) -> None:
    (root / "dog").mkdir()
    Image.new("RGB", (8, 8)).save(root / "dog" / "0.png")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (corrupt, r"bee/2\.png"),
        (not_an_image, r"cannot read image .*bee/2\.png"),
        (empty_class, "dog holds no image"),
        (linked_images, "dog holds no image .* but links that lead out of the data's folder \\(1\\)"),
        (linked_classes, "has no class folders but links that lead out of the data's folder \\(3\\)"),
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
