"""Adversarial sets on a network itself, made once for every sweep, device and command that asks for them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from export.identity import module_sha256
from harness.attacks.batch_size import batch_size
from harness.attacks.sets import make_set
from harness.data.dataset import Dataset
from harness.hops.attack import Planned, plan_sets
from harness.hops.subject import Subject
from harness.settings import Settings
from harness.sweep.cache import Cache
from harness.sweep.keys import ATTACKING, code, digest

SETS = "sets"
FOLDER = "adversarial"


def planned_sets(subject: Subject, settings: Settings) -> Iterator[Planned]:
    """The sets of a bench that follow from the network alone, whatever is exported from it."""
    return plan_sets(subject, settings, [])


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
            "eps": str(planned.eps),
            "seed": seed,
            "batch": batch_size(planned.module, data.images),
            "code": code(ATTACKING),
        }
    )
    with cache.making(SETS, key) as folder:
        if folder is not None:
            make_set(
                planned.module,
                data,
                planned.index,
                planned.attack,
                planned.eps,
                seed,
                source=planned.source,
                folder=folder / FOLDER,
            )
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
