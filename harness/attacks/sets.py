"""Adversarial sets: made batch by batch, stored as they grow, resumed exactly.

A part file holds each finished batch, so a killed run repeats only the batch it was in. Random starts come from the set's seed, the attack
and the image alone: a resumed set has the same bytes as an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from export.identity import module_sha256
from harness.answers import TWIN
from harness.attacks import parts
from harness.attacks.access import Access
from harness.attacks.batch import Attacked, Panel
from harness.attacks.batch_size import batch_size
from harness.attacks.clean import Mask
from harness.attacks.executors import Executor
from harness.attacks.executors.local import Local
from harness.attacks.forms import Forms
from harness.attacks.gradient import frozen_eval
from harness.attacks.grid import ball_levels, distances
from harness.attacks.search import image_seed
from harness.attacks.table import Attack
from harness.attacks.work import Batch, Common
from harness.compute.placement import device
from harness.data.dataset import Dataset
from harness.data.stored import StoredImages
from harness.eps import slug
from harness.errors import UntrustedError, UsageError
from harness.progress import Track
from harness.records import AttackRecord, Queries
from harness.stack import ImageStack

Rest = dict[str, NDArray[Any]]
"""What is kept in memory of the batches that are done: the fields of `Attacked` but the images, each (n,)."""


def make_set(
    module: nn.Module,
    data: Dataset,
    index: NDArray[np.int64],
    attack: Attack,
    eps: Fraction,
    seed: int,
    *,
    source: str,
    folder: Path,
    target: str = TWIN,
    made_on: str = TWIN,
    batch: int | None = None,
    survivors: Mask | None = None,
    panel: Panel | None = None,
    first: ImageStack | None = None,
    executor: Executor | None = None,
    forms: Forms | None = None,
) -> tuple[AttackRecord, StoredImages]:
    """Attack the images of `data` at `index` and store them in `folder/SOURCE-TARGET-NAME-EPS.npz`.

    Only images that `module` has right are attacked, with a panel all; the rest stay as they are. A finished set is read back, a begun one
    goes on after its last finished batch.

    Args:
        module: float images (n, c, h, w) in [0, 1] to logits (n, classes). Attacked in evaluation mode; its mode, parameters and
            their gradients are left as they were.
        index: int (n,), positions in `data`.
        eps: the L-inf radius. A minimum-norm attack takes none: its record says 0.
        source: why the set is made, a key of `harness.sources.SOURCES`, for the record and the file name.
        folder: the run's folder of adversarial sets; the record's `file` is relative to its parent.
        target: what `module` is, for the record and the file name.
        made_on: the row of its answers, for the record.
        batch: images per part; by default as many as `batch_size` allows.
        survivors: bool (n,), images that are still worth attacking. The others stay clean and count as fooled already, so that
            the record's `target_accuracy` is cumulative.
        panel: who must be fooled on an image before it may leave, see `harness.attacks.batch`; None: every image stays to the end.
        first: uint8 (n, h, w, c), where each image's search starts instead of at random.
        executor: who attacks the batches; None: this process.
        forms: of `module` and `data`, where several sets are made with them.

    Returns:
        The record, and the images, uint8 (n, h, w, c), in the order of `index`.

    Raises:
        UsageError: no image (with a panel none may be left), a radius below one level, a mask of another length, output that is
            not finite logits, a gradient that is not finite, or no space on the disk.
        UntrustedError: the file holds another set (another twin, data set, seed or setting), or changed since it was made.
    """
    if len(index) == 0 and panel is None:
        raise UsageError("no image to attack: the index is empty")
    if survivors is not None and survivors.shape != (len(index),):
        raise UsageError(f"the survivors' mask has shape {survivors.shape}; expected ({len(index)},)")
    batch = batch or batch_size(module, data.images)
    wanted = np.ones(len(index), dtype=bool) if survivors is None else survivors
    radius = eps if attack.bounded else Fraction(0)
    worker, forms = executor or Local(), forms or Forms(module, data)
    task = _Task(module, data, index, attack, radius, seed, source, target, made_on, folder, batch, wanted, panel, first, worker, forms)
    return task.finished() or task.run()


@dataclass(frozen=True)
class _Task:
    """A set to be made, and where its files lie."""

    module: nn.Module
    data: Dataset
    index: NDArray[np.int64]
    attack: Attack
    eps: Fraction
    seed: int
    source: str
    target: str
    made_on: str
    folder: Path
    batch: int
    wanted: Mask
    panel: Panel | None
    first: ImageStack | None
    executor: Executor
    forms: Forms

    @property
    def file(self) -> Path:
        return self.folder / f"{self.source}-{self.target}-{self.attack.name}-{slug(self.eps)}.npz"

    @property
    def stored_as(self) -> str:
        """The file, as records name it."""
        return f"{self.folder.name}/{self.file.name}"

    @property
    def parts_folder(self) -> Path:
        return self.folder / f"{self.file.stem}-{self.fingerprint[:12]}.parts"

    @property
    def levels(self) -> int | None:
        return ball_levels(self.eps) if self.attack.bounded else None

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything the set's bytes follow from, so that parts of another set are never picked up."""
        settings = (self.attack, str(self.eps), self.seed, self.batch, self.source, self.target, self.data.sha256, device().type)
        digest = hashlib.sha256(repr(settings).encode())
        digest.update(np.ascontiguousarray(self.index, dtype="<i8").data)
        digest.update(np.ascontiguousarray(self.wanted).data)
        digest.update(module_sha256(self.module).encode())
        if self.panel is not None:
            digest.update(repr([(model.id, model.sha256) for model in self.panel.judges]).encode())
            digest.update(np.ascontiguousarray(self.panel.fooled).data)
        if self.first is not None:
            parts.add_images(digest, self.first)
        return digest.hexdigest()

    def finished(self) -> tuple[AttackRecord, StoredImages] | None:
        """The stored set, if there is one."""
        if not self.file.exists():
            return None
        arrays = parts.read(self.file, "images")
        if arrays is None or not {"record", "fingerprint"} <= arrays.keys():
            raise UntrustedError(f"adversarial set {self.file} is damaged. Delete it and run the attack again.")
        if str(arrays["fingerprint"]) != self.fingerprint:
            raise UntrustedError(f"{self.file} holds another set: the twin, data, seed or settings differ. Choose another folder.")
        shutil.rmtree(self.parts_folder, ignore_errors=True)  # left where the process died between merging and tidying up
        record = parts.record_of(arrays, self.file)
        for name, expected in self._given.items():
            if (found := getattr(record, name)) != expected:
                raise UntrustedError(f"{self.file} says that its {name} is {found!r}; expected {expected!r}. Delete it and attack again.")
        images, index, labels = parts.load_set(self.file, record.set_sha256)
        if not (np.array_equal(index, self.data.place(self.index)) and np.array_equal(labels, self.data.labels[self.index])):
            raise UntrustedError(f"{self.file} holds other images than those of this run. Delete it and attack again.")
        self._distances(images)
        return record, images

    def run(self) -> tuple[AttackRecord, StoredImages]:
        """Make the missing batches, merge all, and remove the parts."""
        paths, rest = self._batches(self.parts_folder)
        images = StoredImages(paths, self.data.images.shape[1:])
        record = self.record(images, rest)
        labels, places = self.data.labels[self.index], self.data.place(self.index)
        extra = {"record": np.array(record.model_dump_json()), "fingerprint": np.array(self.fingerprint)}
        parts.write(self.file, {"index": places, "labels": labels, **extra}, images)
        shutil.rmtree(self.parts_folder, ignore_errors=True)
        return record, parts.open_images(self.file)

    def _batches(self, folder: Path) -> tuple[list[Path], Rest]:
        """The part files of all batches, in their order: each is there already, or made now. And what is kept of them in memory."""
        slices = [slice(start, start + self.batch) for start in range(0, len(self.index), self.batch)]
        paths = [folder / f"{number:05d}.npz" for number in range(len(slices))]
        names = [field.name for field in fields(Attacked)]
        rest: Rest = {name: np.zeros(len(self.index), np.int64 if name == "queries" else np.bool_) for name in names if name != "images"}
        there, missing = np.zeros(len(self.index), np.bool_), []

        def put(number: int, part: Mapping[str, NDArray[Any]]) -> None:
            for name, array in rest.items():
                array[slices[number]] = part[name]
            there[slices[number]] = True

        for number, path in enumerate(paths):
            arrays = parts.read(path)
            if arrays is not None and arrays.keys() == set(names):  # a part of another version is made again
                put(number, arrays)
            else:
                missing.append(number)
        on = self.target if self.made_on == self.target else f"{self.made_on} for {self.target}"
        title = f"{self.source} {self.attack.name} on {on}" + (f" at {self.eps}" if self.attack.bounded else "")
        tracked = Track(title, len(self.index), done=int(there.sum()), summary=len(self.index) > 0)
        with frozen_eval(self.module), tracked as track, closing(self._made(slices, missing)) as made:
            for number, part in made:
                put(number, vars(part))
                parts.write(paths[number], vars(part))
                track.advance(len(part.images), f"robust {rest['right'][there].mean():.1%}")
        return paths, rest

    def _made(self, slices: list[slice], missing: list[int]) -> Generator[tuple[int, Attacked], None, None]:
        """The missing batches, each as soon as it is there."""
        if missing:
            yield from self.executor.run(self._common(), ((number, self._batch(slices[number])) for number in missing))

    def _common(self) -> Common:
        """What the batches share."""
        form = self.forms.get(bf16=self.attack.bf16)
        return Common(self.module, form, self.attack, self.levels, None if self.panel is None else self.panel.judges)

    def _batch(self, piece: slice) -> Batch:
        where = self.index[piece]
        return Batch(
            self.data.images[where],
            self.data.labels[where],
            [image_seed(self.seed, self.attack.name, int(i)) for i in where],
            self.wanted[piece],
            None if self.panel is None else self.panel.fooled[piece],
            None if self.first is None else self.first[piece],
            self.forms.clean(where, gradient=self.attack.access is Access.GRADIENT),
        )

    @property
    def _given(self) -> dict[str, Any]:
        """What its record says that does not follow from the images."""
        return {
            "source": self.source,
            "target": self.target,
            "made_on": self.made_on,
            "name": self.attack.name,
            "library": self.attack.library,
            "norm": self.attack.norm,
            "eps": float(self.eps),
            "eps_exact": str(self.eps),
            "steps": self.attack.steps,
            "step_size": self.attack.step_size,
            "seed": self.seed,
            "n": len(self.index),
            "file": self.stored_as,
        }

    def _distances(self, images: ImageStack) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
        """L-inf and L2 of each image, see `distances`. Raises UntrustedError: one is not in its ball, or of another size."""
        if images.shape != (len(self.index), *self.data.images.shape[1:]):
            raise UntrustedError(f"{self.file} holds images {images.shape}. Delete it and attack again.")
        linf, l2 = distances(self.data.images, images, self.index)
        if self.levels is not None and linf.max(initial=0) > self.levels:
            raise UntrustedError(
                f"{self.file} holds an image {linf.max()}/255 from the clean one; expected at most {self.levels}/255. Delete it and "
                "attack again."
            )
        return linf, l2

    def record(self, images: ImageStack, rest: Rest) -> AttackRecord:
        """The record of the merged set. Raises UntrustedError: an image of a part that was read back is not in its ball."""
        attacked, right, fooled = rest["attacked"], rest["right"], rest["fooled"]
        n_attacked = int(attacked.sum())
        linf, l2 = self._distances(images)
        return AttackRecord(
            **self._given,
            n_attacked=n_attacked,
            target_accuracy=float(right.mean()) if len(right) else 0.0,
            linf_max=int(linf.max(initial=0)) / 255,
            l2_mean=float(l2[attacked].mean()) if n_attacked else 0.0,
            l2_median=float(np.median(l2[fooled])) if fooled.any() else None,
            zero_gradient_share=float(rest["zero_gradient"].sum()) / max(n_attacked, 1),
            undone_by_rounding=int(rest["undone"].sum()),
            queries=Queries.of(rest["queries"][attacked].tolist()),
            set_sha256=parts.set_digest(images, self.data.place(self.index), self.data.labels[self.index]),
        )
