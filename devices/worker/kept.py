"""What stays on a device between runs, in one folder of its user: how much of it may, and throwing it away.

`store/` has files that travelled, `jobs/` the folders of runs, `engines/` what TensorRT built. Standard library only, Python >= 3.10.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

PARTS = ("store", "jobs", "engines")
MOST_BYTES = 4 << 30  # of the store, and of the engines


def clear(folder: Path, keep: Collection[str] = ()) -> dict[str, Any]:
    """Throw everything away but what is named in `keep`. For the holder of the device's lock: nobody else uses any of it then.

    Returns:
        `removed`: part -> how many files or folders; `freed_bytes`, where a file of several names counts once.
    """
    before = _size([folder / part for part in PARTS])
    removed = {}
    for part in PARTS:
        entries = [path for path in (folder / part).iterdir() if path.name not in keep] if (folder / part).is_dir() else []
        for path in entries:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        removed[part] = len(entries)
    return {"removed": removed, "freed_bytes": before - _size([folder / part for part in PARTS])}


def surplus(paths: Iterable[Path], most_bytes: int, keep: Collection[str] = (), most: int | None = None) -> dict[Path, int]:
    """Which files and folders must go so that the others take at most `most_bytes`, and are at most `most`: the longest unused first.

    By the clock of the device, right or wrong: it decides no more than the order. Those named in `keep`, before a dot, stay.

    Returns:
        Path -> bytes.
    """
    sizes = {path: _size([path]) for path in sorted(paths, key=lambda path: path.stat().st_mtime)}
    total, count, found = sum(sizes.values()), len(sizes), {}
    for path, size in sizes.items():
        if total <= most_bytes and (most is None or count <= most):
            break
        if path.name.partition(".")[0] not in keep:
            found[path] = size
            total, count = total - size, count - 1
    return found


def _size(paths: Iterable[Path]) -> int:
    """Bytes of files and of all below folders; a file of several names once, no link followed."""
    found = [inner for path in paths for inner in (path, *(path.rglob("*") if path.is_dir() else ()))]
    stats = [path.lstat() for path in found if path.is_symlink() or path.is_file()]
    return sum({stat.st_ino: stat.st_size for stat in stats}.values())
