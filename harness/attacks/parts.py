"""Files of adversarial sets: one part per finished batch, one file per finished set. Whole or not there at all."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from harness.allocator import pages
from harness.data.npz import Archive
from harness.errors import UntrustedError, UsageError
from harness.records import AttackRecord

Arrays = dict[str, NDArray[Any]]


def write(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Save arrays as npz; the same arrays give the same bytes.

    Raises:
        UsageError: the file cannot be written (no space, no permission).
    """
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the arrays for its flag
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def read(path: Path, *but: str) -> Arrays | None:
    """The arrays of an npz file, `but` those named; None where there is no file or it is damaged. Never unpickles."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files if name not in but}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def record_of(arrays: Arrays, path: Path) -> AttackRecord:
    """The record that is stored with a finished set.

    Raises:
        UntrustedError: it is damaged; `path` is the set's.
    """
    try:
        return AttackRecord.model_validate_json(str(arrays["record"]))
    except (KeyError, ValidationError) as error:
        raise UntrustedError(f"the record in {path} is damaged. Delete it and run the attack again.") from error


def set_digest(images: NDArray[np.uint8], index: NDArray[np.int64], labels: NDArray[np.int64]) -> str:
    """SHA-256 over the bytes of the images, their indices and labels, in this order."""
    digest = hashlib.sha256(np.ascontiguousarray(images, dtype=np.uint8).data)
    digest.update(np.ascontiguousarray(index, dtype="<i8").data)
    digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return digest.hexdigest()


def read_images(path: Path) -> NDArray[np.uint8]:
    """The images of a finished set, (n, h, w, c). Raises as `read_rows`."""
    try:
        with Archive(path) as archive:
            header = archive.header("images")
            images = pages(header.shape, header.dtype)
            for start, rows in archive.rows("images"):
                images[start : start + len(rows)] = rows
            return images
    except UsageError as error:
        raise _damaged(path, error) from error


def read_rows(path: Path) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(position of the first, images (k, h, w, c)) of a finished set of this very run, a few at a time.

    Raises:
        UntrustedError: missing or damaged.
    """
    try:
        with Archive(path) as archive:
            yield from archive.rows("images")
    except UsageError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception | None = None) -> UntrustedError:
    why = f" ({error})" if error else ""
    return UntrustedError(f"adversarial set {path} is missing or damaged{why}. Run the attack again in a new folder.")


def load_set(path: Path, sha256: str) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Images (n, h, w, c), index (n,) and labels (n,) of a finished set.

    Raises:
        UntrustedError: missing, damaged, or not the set with that hash.
    """
    arrays = read(path, "images")
    if arrays is None or not {"index", "labels"} <= arrays.keys():
        raise _damaged(path)
    images, index, labels = read_images(path), arrays["index"], arrays["labels"]
    found = set_digest(images, index, labels)
    if found != sha256:
        raise UntrustedError(f"adversarial set {path} changed since it was made: sha256 {found[:12]}…, expected {sha256[:12]}…")
    return images, index, labels
