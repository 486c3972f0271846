"""The shipped `cifar10-sample`: 1,000 stratified test images of CIFAR-10 and 512 training images for calibration.

Two lossless PNG sheets of 32x32 tiles, row by row, and `sample.json`: indices into the data set's own order, labels, seed,
hashes, source. PNG because it is the smallest of the plain lossless forms: 3.3 MB against 4.3 MB as compressed .npz.
The images stand in round-robin order of their classes, so that a prefix is stratified too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.data.dataset import Dataset
from harness.errors import UntrustedError

FOLDER = Path(__file__).parent
INDEX = FOLDER / "sample.json"
SIDE = 32


def to_sheet(images: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Tiles (n, 32, 32, 3), n a multiple of `columns`, -> one picture (32 * n / columns, 32 * columns, 3)."""
    rows = len(images) // columns
    return images.reshape(rows, columns, SIDE, SIDE, 3).transpose(0, 2, 1, 3, 4).reshape(rows * SIDE, columns * SIDE, 3)


def from_sheet(sheet: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The inverse of `to_sheet`."""
    rows, columns = sheet.shape[0] // SIDE, sheet.shape[1] // SIDE
    return sheet.reshape(rows, SIDE, columns, SIDE, 3).transpose(0, 2, 1, 3, 4).reshape(rows * columns, SIDE, SIDE, 3)


def read_part(name: str, entry: dict[str, Any], class_names: tuple[str, ...], folder: Path = FOLDER) -> Dataset:
    """One sheet with its labels.

    Raises:
        UntrustedError: the sheet is not the one the index was written for.
    """
    path = folder / str(entry["file"])
    with Image.open(path) as picture:
        images = from_sheet(np.asarray(picture.convert("RGB")))
    data = Dataset(name, images, np.asarray(entry["labels"], dtype=np.int64), class_names)
    if data.sha256 != entry["sha256"]:
        raise UntrustedError(
            f"{path} changed since it was shipped: sha256 {data.sha256[:12]}…, {INDEX.name} says {entry['sha256'][:12]}…. Install again."
        )
    return data


def load_sample(folder: Path = FOLDER) -> tuple[Dataset, Dataset]:
    """(test, calibration) of `cifar10-sample`.

    Raises:
        UntrustedError: the shipped files were changed.
    """
    index = json.loads((folder / INDEX.name).read_text(encoding="utf-8"))
    names = tuple(index["class_names"])
    return read_part("cifar10-sample", index["test"], names, folder), read_part(
        "cifar10-sample (calibration)", index["calibration"], names, folder
    )


def write_part(data: Dataset, indices: NDArray[np.intp], columns: int, file: str, folder: Path) -> dict[str, Any]:
    """Write one sheet; return its entry of the index."""
    Image.fromarray(to_sheet(data.images, columns)).save(folder / file, optimize=True)
    return {"file": file, "sha256": data.sha256, "indices": indices.tolist(), "labels": data.labels.tolist()}
