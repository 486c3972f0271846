"""`--data`: a name, an .npz or an image folder becomes (test images, calibration images), checked against the model."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from devices.host.sysroot import cache_folder
from harness.data import cifar10, sample
from harness.data.dataset import Dataset, Source, check_numbering
from harness.data.image_folder import open_folder
from harness.data.npz import images_shape, open_npz
from harness.data.picture import Resize
from harness.data.remarks import remarks_of
from harness.data.split import Choose, set_aside, stratified, whole, without_copies
from harness.errors import UsageError

__all__ = ["NAMES", "check_data", "load_all", "load_data", "peek_shape", "stratified"]

NAMES = ("cifar10-sample", "cifar10")
OTHER_CHANNELS = {(1, 3): "Give the grey images three equal channels", (3, 1): "Make the images grey"}  # (theirs, the model's)


def load_data(
    name: str,
    *,
    input_shape: tuple[int, int, int] | None,
    classes: int | None,
    seed: int,
    choose: Choose | None = None,
    resize: Resize | None = None,
    class_names: Sequence[str] = (),
) -> tuple[Dataset, Dataset]:
    """Load `--data`. What a user should know of it before believing a figure is told on standard error.

    Args:
        name: `cifar10-sample`, `cifar10`, a .npz file or an image folder.
        input_shape: (channels, height, width) of the model, or None where it takes any.
        classes: number of the model's logits, or None to leave the labels unchecked.
        seed: chooses the calibration slice where the data does not bring its own.
        choose: from the labels of the test images to the positions of those that are wanted; the others are not read. All if None.
        resize: how the images of a folder are scaled; without it until they just cover the input.
        class_names: of the model's logits, where they are known.

    Returns:
        (test, calibration): no image is in both, not even as a copy.

    Raises:
        UsageError: there is no such data, it is damaged, or it does not fit the model.
    """
    with _readable(name):
        _check_name(name)
        test, calibration = _read(name, input_shape, seed, choose, resize)
    _check_size(test, input_shape)
    _check_size(calibration, input_shape)
    _check_labels(test, classes)
    check_numbering(test.name, test.class_names, "the model", class_names)
    test = replace(test, remarks=(*test.remarks, *remarks_of(test, classes)))
    for remark in test.remarks:
        print(f"harness: {test.name}: {remark}", file=sys.stderr)
    return test, calibration


def peek_shape(name: str) -> tuple[int, int, int] | None:
    """(channels, height, width) of `--data` without loading it; None where it has no size of its own, or cannot be read.

    A folder's images are resized to what the model takes. What cannot be read is left for `load_data` to refuse.
    """
    if name in NAMES:
        return 3, 32, 32
    return images_shape(Path(name)) if Path(name).suffix.lower() == ".npz" else None


def check_data(name: str) -> None:
    """Refuse what is no data by its name, or an .npz without the arrays that it must hold, before anything large is imported.

    Raises:
        UsageError: says what was expected.
    """
    with _readable(name):
        _check_name(name)
        if Path(name).suffix.lower() == ".npz" and not Path(name).is_dir():
            open_npz(Path(name))


def _check_name(name: str) -> None:
    path = Path(name)
    if name in NAMES or path.is_dir() or path.suffix.lower() == ".npz":
        return
    if path.exists():
        raise UsageError(f"data {path} is neither an .npz nor a folder. Expected {', '.join(NAMES)}, FILE.npz or a folder CLASS/IMAGE.")
    near = difflib.get_close_matches(name, NAMES, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise UsageError(f"there is no data '{name}'.{hint} Choices: {', '.join(NAMES)}, FILE.npz, a folder CLASS/IMAGE.")


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """What the system says of data that it cannot read, as UsageError."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a name that cannot be a path
        raise UsageError(f"cannot read data '{name[:80]}': {getattr(error, 'strerror', None) or error}") from error


def load_all(name: str) -> Dataset:
    """Every labelled image of a training set: `cifar10` (its training half) or an .npz.

    Raises:
        UsageError: there is no such data, or it is damaged.
    """
    if name == "cifar10":
        return cifar10.read(cache_folder(), train=True, download=True)
    if Path(name).suffix.lower() != ".npz":
        raise UsageError(f"training data '{name}' is neither cifar10 nor an .npz with images and labels")
    return whole(open_npz(Path(name))[0])


def _read(
    name: str, input_shape: tuple[int, int, int] | None, seed: int, choose: Choose | None, resize: Resize | None
) -> tuple[Dataset, Dataset]:
    if name == "cifar10-sample":
        return _chosen(*sample.load_sample(), choose)
    if name == "cifar10":
        return _chosen(*cifar10.load(seed), choose)
    path = Path(name)
    if path.is_dir():
        return set_aside(open_folder(path, input_shape, resize), seed, choose)
    data, calibration = open_npz(path)
    return set_aside(data, seed, choose) if calibration is None else _chosen(data, calibration, choose)


def _chosen(data: Source, calibration: Source, choose: Choose | None) -> tuple[Dataset, Dataset]:
    """Data that brings its calibration images: what is wanted of it, and those of them that are not in it."""
    test, own = whole(data, choose), whole(calibration)
    fresh = without_copies(own, test)
    if copies := len(own) - len(fresh):
        remark = (
            f"{copies:,} of its {len(own):,} calibration images are test images too: left out, but an --engine may be calibrated on them"
        )
        test = replace(test, remarks=(*test.remarks, remark))
    return test, fresh


def _check_size(data: Dataset, input_shape: tuple[int, int, int] | None) -> None:
    h, w, c = data.images.shape[1:]
    if input_shape is not None and (c, h, w) != input_shape:
        expected = "x".join(map(str, input_shape))
        remedy = OTHER_CHANNELS.get((c, input_shape[0]), "Resize the images")
        raise UsageError(
            f"{data.name} has images of {c}x{h}x{w}, the model takes {expected} (channels x height x width). "
            f"{remedy}, or choose data that fits."
        )


def _check_labels(data: Dataset, classes: int | None) -> None:
    if classes is None:
        return
    if data.class_names and len(data.class_names) != classes:
        raise UsageError(
            f"{data.name} has {len(data.class_names)} classes, the model {classes}: "
            "their numbering cannot be the same. Choose data made for this model."
        )
    worst = int(data.labels.argmax())
    if data.labels[worst] >= classes:
        from_one = " Do they count from 1? Then save labels - 1." if data.labels[worst] == classes and data.labels.min() > 0 else ""
        raise UsageError(
            f"{data.name}: label {data.labels[worst]} at index {worst} is out of range; "
            f"the model has {classes} classes, 0..{classes - 1}.{from_one}"
        )
