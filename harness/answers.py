"""The matrix models × sets: what each model answers to each set of images. Everything the product says is computed from it.

Rows are models (the twin, the exported graph read back, every build of every engine), columns the clean images and every adversarial set.
A cell holds logits, `answers/MODEL/SET_SHA.npy`; a finished cell is never computed again, by whichever process. Pure: numpy and files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.errors import NO_ARRAYS, UntrustedError, unreadable
from harness.records import AttackRecord
from harness.stack import ImageStack, pieces

Images = NDArray[np.uint8]
Logits = NDArray[np.float32]
Right = NDArray[np.bool_]
Index = NDArray[np.int64]

ANSWERS = "answers"
TWIN = "twin"
_ROW = "row.json"
_SUBJECT = "images.npz"


class Model(Protocol):
    """Whatever can be asked.

    Attributes:
        id: its name in the record: `twin`, an engine such as `ort-int8` or `trt-int8#2`, its graph `graph-ort-int8`.
        sha256: of all that its answers follow from: another one is another model.
    """

    @property
    def id(self) -> str:
        """See the class."""
        ...

    @property
    def sha256(self) -> str:
        """See the class."""
        ...

    def logits(self, images: Images) -> Logits:
        """Logits, float32 (n, classes), of uint8 images (n, h, w, c)."""


class Answers:
    """The cells on disk, in `FOLDER/answers`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / ANSWERS

    def begin(self, labels: Index, index: Index) -> None:
        """Keep what the columns are about: the labels of all images, and the positions of those that are attacked."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(self.folder / _SUBJECT, lambda file: np.savez(file, labels=labels, index=index))

    def subject(self) -> tuple[Index, Index]:
        """What `begin` was given. Raises UntrustedError: missing or damaged."""
        try:
            with np.load(self.folder / _SUBJECT, allow_pickle=False) as stored:
                return stored["labels"].astype(np.int64), stored["index"].astype(np.int64)
        except (OSError, *NO_ARRAYS) as error:
            if unreadable(error):
                raise
            raise UntrustedError(f"{self.folder / _SUBJECT} is missing or damaged ({error}). Run the bench again.") from error

    def ask(self, model: Model, sha256: str, images: ImageStack) -> Logits:
        """The cell of a model and a set: from the disk, or asked now and kept.

        Raises:
            UntrustedError: the row was begun by another model of that name, such as a plan that was built anew: answers are not mixed.
        """
        place = self.folder / model.id
        known, classes = _read_row(place / _ROW) or ("", None)
        if known and known != model.sha256:
            raise UntrustedError(
                f"{model.id} is another one than when this run was begun ({model.sha256[:12]}…, {known[:12]}… before): its answers must "
                f"not be mixed. Its file, its runtime's version or an option differs (its threads are as many as the CPUs that this "
                f"process may use, unless --threads said how many): go on as the run was begun, or start a new one."
            )
        if (stored := self.get(model.id, sha256)) is not None and stored.shape == (len(images), classes or stored.shape[1]):
            return stored
        logits = np.concatenate([model.logits(images[piece]) for piece in pieces(images)] or [model.logits(images[:0])])
        place.mkdir(parents=True, exist_ok=True)
        if not known:
            row = {"schema": 1, "id": model.id, "sha256": model.sha256, "classes": logits.shape[1]}
            _write(place / _ROW, lambda file: file.write(json.dumps(row).encode()))
        _write(place / f"{sha256}.npy", lambda file: np.save(file, logits))
        return logits

    def get(self, model: str, sha256: str) -> Logits | None:
        """A finished cell, float32 (n, classes), all finite; None where there is none, or it is damaged.

        Raises:
            OSError: it cannot be read.
        """
        path = self.folder / model / f"{sha256}.npy"
        try:
            stored = np.load(path, allow_pickle=False)
        except (OSError, *NO_ARRAYS) as error:
            if unreadable(error):
                raise
            return None
        return stored if stored.dtype == np.float32 and stored.ndim == 2 and stored.shape[1] and np.isfinite(stored).all() else None

    def models(self) -> list[str]:
        """The rows that were begun."""
        return sorted(path.parent.name for path in self.folder.glob(f"*/{_ROW}"))


@dataclass(frozen=True)
class Column:
    """An adversarial set: its record, and the positions of its images among all, int64 (n,)."""

    record: AttackRecord
    index: Index

    @property
    def eps(self) -> Fraction:
        """The exact radius; 0 for a minimum-norm attack."""
        return Fraction(self.record.eps_exact)


@dataclass(frozen=True)
class Matrix:
    """The cells of a run, read.

    Attributes:
        answers: the cells.
        clean: SHA-256 of the clean images.
        columns: the adversarial sets, in the order they were made.
    """

    answers: Answers
    clean: str
    columns: Sequence[Column]

    @cached_property
    def _subject(self) -> tuple[Index, Index]:
        return self.answers.subject()

    @property
    def labels(self) -> Index:
        """Of all images, int64 (n_clean,)."""
        return self._subject[0]

    @property
    def index(self) -> Index:
        """Positions of the attacked images, int64 (n,)."""
        return self._subject[1]

    def has(self, model: str) -> bool:
        """Whether a model answered to the clean images."""
        return self.answers.get(model, self.clean) is not None

    def logits(self, model: str, column: Column | None = None) -> Logits:
        """A cell; of the clean images where no column is named.

        Raises:
            UntrustedError: it was never finished, or is about other images.
        """
        found = self.answers.get(model, self.clean if column is None else column.record.set_sha256)
        if found is None:
            what = "the clean images" if column is None else f"{column.record.source} {column.record.name}"
            raise UntrustedError(f"the answers of {model} to {what} are missing. Go on with --resume, or run again.")
        if len(found) != (n := len(self.labels if column is None else column.index)):
            what = "the clean images" if column is None else column.record.file
            raise UntrustedError(f"the answers of {model} to {what} are {len(found)}, of {n} images: a file was changed. Run again.")
        return found

    def right(self, model: str, column: Column | None = None) -> Right:
        """Who is right: bool over all images, or over those of a column."""
        labels = self.labels if column is None else self.labels[column.index]
        return np.asarray(self.logits(model, column).argmax(1) == labels, np.bool_)

    def worst_case(self, model: str, columns: Iterable[Column]) -> Right:
        """Right on the clean image and under every column, bool (n,), in the order of `index`.

        Its mean is the worst-case robust accuracy RA*. An image that a set does not hold was not shown: no set could change its worst
        case any more (see `harness.stages.attack`).
        """
        right = self.right(model)
        for column in columns:
            right[column.index] &= self.right(model, column)
        return right[self.index]


def _read_row(path: Path) -> tuple[str, int | None] | None:
    """The model's hash, and how many classes it answers for; None where the row was not begun."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        classes = stored.get("classes")
        return str(stored["sha256"]), None if classes is None else int(classes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if unreadable(error):
            raise
        return None


def _write(path: Path, save: Callable[[BinaryIO], object]) -> None:
    """Write a file, whole or not at all."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        save(file)
    temporary.replace(path)
