"""Adversarial sets, made once for every sweep, device and command that asks for them."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from export.identity import module_sha256
from harness.attacks.batch import Images
from harness.attacks.batch_size import batch_size
from harness.data.dataset import Dataset
from harness.hops.attack import MakeSet, Planned, make_one
from harness.placement import device
from harness.records import AttackRecord
from harness.sweep.cache import Cache
from harness.sweep.keys import ATTACKING, code, digest

SETS = "sets"
FOLDER = "adversarial"


def through(cache: Cache) -> MakeSet:
    """How a bench makes its sets where there is a cache: what any bench made of the same network or exported graph is taken from there."""

    def make(planned: Planned, data: Dataset, seed: int, folder: Path) -> tuple[AttackRecord, Images]:
        link(made(planned, data, seed, cache), folder)
        return make_one(planned, data, seed, folder)

    return make


def made(planned: Planned, data: Dataset, seed: int, cache: Cache) -> Path:
    """The file of one set, made now if the cache has none.

    Raises:
        UsageError: see `harness.attacks.sets.make_set`.
    """
    key = digest(
        {
            "network": module_sha256(planned.module),
            "data": data.sha256,
            "index": hashlib.sha256(planned.index.astype("<i8").tobytes()).hexdigest(),
            "attack": repr(planned.attack),
            "source": planned.source,
            "everyone": planned.everyone,
            "eps": str(planned.eps),
            "seed": seed,
            "batch": batch_size(planned.module, data.images),
            "on": device().type,
            "code": code(ATTACKING),
        }
    )
    with cache.making(SETS, key) as folder:
        if folder is not None:
            make_one(planned, data, seed, folder / FOLDER)
    (file,) = (cache.place(SETS, key) / FOLDER).glob("*.npz")
    return file


def link(file: Path, folder: Path) -> None:
    """Put a file into a folder without copying it, where the disk can."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / file.name
    target.unlink(missing_ok=True)
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)
