"""User data as one .npz: `images` uint8 NHWC and `labels`; optional `calibration_images`, `calibration_labels`, `class_names`."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.dataset import Dataset
from harness.errors import UsageError

KEYS = ("images", "labels", "calibration_images", "calibration_labels", "class_names")


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of an .npz, none of them pickled.

    Raises:
        UsageError: missing, unreadable, not an .npz, damaged, or an array holds Python objects.
    """
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise UsageError(f"{path} is a single .npy array; expected an .npz with images and labels (numpy.savez)")
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise UsageError(f"cannot read data {path}: {error.strerror or error}") from error
    except (ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        if "allow_pickle" in str(error):
            raise UsageError(f"{path} holds pickled Python objects, which are never loaded; save plain arrays with numpy.savez") from error
        raise UsageError(f"{path} is not a readable .npz: {error}") from error


def images_shape(path: Path) -> tuple[int, int, int] | None:
    """(channels, height, width) of the images, from their header alone; None where the file is not as `read_npz` expects it."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        with zipfile.ZipFile(path) as archive, archive.open("images.npy") as file:
            shape, _, _ = readers[np.lib.format.read_magic(file)](file)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError):
        return None  # `read_npz` says what is wrong
    return (shape[3], shape[1], shape[2]) if len(shape) == 4 and shape[3] in (1, 3) else None


def check_images(path: Path, key: str, images: NDArray[Any]) -> None:
    """Images must be uint8 (n, height, width, 1 or 3), n > 0.

    Raises:
        UsageError: they are not; says how to convert them.
    """
    expected = "expected uint8 (n, height, width, 1 or 3)"
    if images.dtype.kind == "f":
        unit = images.size == 0 or (np.nanmin(images) >= 0 and np.nanmax(images) <= 1)
        how = "(images * 255).round().astype('uint8')" if unit else "undo the normalisation, then round to 0..255 and .astype('uint8')"
        raise UsageError(f"{path}: {key} are {images.dtype} {images.shape}; {expected}. Convert with {how}.")
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
        raise UsageError(f"{path}: {key} are {images.dtype} {images.shape}; {expected}. They look channels-first: .transpose(0, 2, 3, 1).")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise UsageError(f"{path}: {key} are {images.dtype} {images.shape}; {expected}")
    if images.size == 0:
        raise UsageError(f"{path}: {key} hold no pixel, shape {images.shape}; {expected}")


def read_npz(path: Path) -> tuple[Dataset, Dataset | None]:
    """(all labelled images, its own calibration images or None).

    Calibration never looks at labels; where the file has none for it they are 0.

    Raises:
        UsageError: see `read_arrays` and `check_images`; missing or unknown arrays, labels that do not fit.
    """
    arrays = read_arrays(path)
    missing, strange = [key for key in KEYS[:2] if key not in arrays], [key for key in arrays if key not in KEYS]
    if missing:
        raise UsageError(
            f"{path} lacks {' and '.join(missing)}; it holds {', '.join(arrays) or 'nothing'}. "
            f"Expected {', '.join(KEYS[:2])}, optionally {', '.join(KEYS[2:])}."
        )
    if strange:
        raise UsageError(f"{path} holds unknown arrays {', '.join(strange)}. Known: {', '.join(KEYS)}.")
    check_images(path, "images", arrays["images"])
    names = tuple(str(name) for name in arrays.get("class_names", np.array([])).ravel())
    data = Dataset(path.stem, arrays["images"], arrays["labels"], names)
    if "calibration_images" not in arrays:
        return data, None
    extra = arrays["calibration_images"]
    check_images(path, "calibration_images", extra)
    labels = arrays.get("calibration_labels", np.zeros(len(extra), dtype=np.int64))
    return data, Dataset(f"{path.stem} (calibration)", extra, labels, names)
