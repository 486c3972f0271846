"""Files of adversarial sets: one part per finished batch, one file per finished set. Whole or not there at all."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from harness.data.npz import Archive
from harness.data.stored import StoredImages
from harness.errors import NO_ARRAYS, UntrustedError, UsageError, unreadable
from harness.records import AttackRecord
from harness.stack import ImageStack, pieces

Arrays = dict[str, NDArray[Any]]


def write(path: Path, arrays: Mapping[str, NDArray[Any]], images: ImageStack | None = None) -> None:
    """Save arrays as npz, `images` first where they are given on their own; the same arrays give the same bytes.

    Raises:
        UsageError: the file cannot be written (no space, no permission).
    """
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                if images is not None:
                    with archive.open("images.npy", "w", force_zip64=True) as stream:
                        _write_images(stream, images)
                for name, values in arrays.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                        np.lib.format.write_array(stream, values, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def _write_images(stream: IO[bytes], images: ImageStack) -> None:
    """As numpy writes an array, a piece at a time."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": images.shape}
    np.lib.format.write_array_header_1_0(stream, header)
    for piece in pieces(images):
        stream.write(np.ascontiguousarray(images[piece]).data)


def read(path: Path, *but: str) -> Arrays | None:
    """The arrays of an npz file, `but` those named; None where there is no file or it is damaged. Never unpickles.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files if name not in but}
    except (OSError, *NO_ARRAYS) as error:
        if unreadable(error):
            raise
        return None


def record_of(arrays: Arrays, path: Path) -> AttackRecord:
    """The record that is stored with a finished set.

    Raises:
        UntrustedError: it is damaged; `path` is the set's.
    """
    try:
        return AttackRecord.model_validate_json(str(arrays["record"]))
    except NO_ARRAYS as error:  # pydantic's is a ValueError
        raise UntrustedError(f"the record in {path} is damaged. Delete it and run the attack again.") from error


def set_digest(images: ImageStack, index: NDArray[np.int64], labels: NDArray[np.int64]) -> str:
    """SHA-256 over the bytes of the images, their indices and labels, in this order."""
    digest = hashlib.sha256()
    add_images(digest, images)
    digest.update(np.ascontiguousarray(index, dtype="<i8").data)
    digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return digest.hexdigest()


def add_images(digest: hashlib._Hash, images: ImageStack) -> None:
    """Update a hash with the bytes of images."""
    for piece in pieces(images):
        digest.update(np.ascontiguousarray(images[piece]).data)


def open_images(path: Path) -> StoredImages:
    """The images of a finished set, (n, h, w, c), read when they are asked for. Raises UntrustedError: missing or damaged."""
    try:
        with Archive(path) as archive:
            of_one = archive.header("images").shape[1:]
        return StoredImages([path], of_one)
    except UsageError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception | None = None) -> UntrustedError:
    why = f" ({error})" if error else ""
    return UntrustedError(f"adversarial set {path} is missing or damaged{why}. Run the attack again in a new folder.")


def load_set(path: Path, sha256: str) -> tuple[StoredImages, NDArray[np.int64], NDArray[np.int64]]:
    """Images (n, h, w, c), index (n,) and labels (n,) of a finished set.

    Raises:
        UntrustedError: missing, damaged, or not the set with that hash.
    """
    arrays = read(path, "images")
    if arrays is None or not {"index", "labels"} <= arrays.keys():
        raise _damaged(path)
    images, index, labels = open_images(path), arrays["index"], arrays["labels"]
    found = set_digest(images, index, labels)
    if found != sha256:
        raise UntrustedError(f"adversarial set {path} changed since it was made: sha256 {found[:12]}…, expected {sha256[:12]}…")
    return images, index, labels
