"""A run folder being written: its record, its log, its lock."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from devices.worker.files import FULL
from harness import __version__
from harness.ending import full_place
from harness.errors import UntrustedError, UsageError
from harness.records import RECORD, RunRecord
from harness.settings import FLEET, LOCK, check_output

LIBRARIES = ("torch", "torchvision", "onnx", "onnxruntime", "foolbox", "pyautoattack", "numpy", "scipy")


class RunFolder:
    """One run folder, held by this process alone. Use as a context manager.

    Args:
        folder: is made where there is none.
        new: no run is in it yet. Looked at once it is held: another process may have begun one, and ended it, meanwhile.

    Raises:
        UsageError: another process is writing to the folder, a link in it leads elsewhere, or it is not new.
    """

    def __init__(self, folder: Path, *, new: bool = False) -> None:
        self.folder, self._new = folder, new
        self._lock: TextIO | None = None

    def __enter__(self) -> RunFolder:
        self.folder.mkdir(parents=True, exist_ok=True)
        check_links(self.folder)
        self._lock = (self.folder / LOCK).open("a", encoding="utf-8")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise UsageError(f"another harness is writing to {self.folder}; wait for it or choose another folder") from error
        if self._new and any((self.folder / name).exists() for name in (RECORD, FLEET)):
            try:
                check_output(self.folder)
            except UsageError:
                self._lock.close()
                raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, OSError) and error.errno in FULL and error.filename is None:
            error.filename = full_place(self.folder)  # a write that finds the disk full names nothing, and may be one to a temporary file
        if self._lock is not None:
            self._lock.close()

    def save(self, record: RunRecord) -> RunRecord:
        """Write the record; returns it.

        Raises:
            UsageError: the folder is not the one that is held: it was removed, or moved, and another run may be in its place.
        """
        if self._lock is None or not _is_there(self._lock, self.folder / LOCK):
            raise UsageError(
                f"{self.folder} was removed or moved while this run wrote to it, and nothing more is written there. Go on with --resume "
                "where it is now, or start a new run."
            )
        record.save(self.folder)
        return record

    def log(self, message: str) -> None:
        """A line for the person who waits and for `log.txt`."""
        print(message, file=sys.stderr)
        with (self.folder / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{now()} {message}\n")


def _is_there(file: TextIO, path: Path) -> bool:
    """Whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def now() -> str:
    """This moment, ISO 8601, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def environment() -> dict[str, Any]:
    """The workstation: what could change a number when the run is repeated elsewhere."""
    from harness.compute import placement  # imports torch

    return {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "gradients": placement.name(),
        **{name: version(name) for name in LIBRARIES},
    }


def check_versions(then: Mapping[str, Any], folder: Path) -> None:
    """Refuse to go on with what other versions have begun, or gradients of other hardware: the record names those, and figures of two would
    stand side by side.

    Args:
        then: name -> version or hardware, of those that the run in `folder` was begun with; what else is in it is left.

    Raises:
        UntrustedError: names each that differs.
    """
    from harness.compute import placement  # imports torch

    now_is = {"harness": __version__, "gradients": placement.name(), **{name: version(name) for name in LIBRARIES}}
    if other := [f"{name} {then[name]} then, {today} now" for name, today in now_is.items() if then.get(name, today) != today]:
        raise UntrustedError(
            f"{folder} was begun with other versions or hardware: {', '.join(other)}. Go on where they are, or start a new run."
        )


def check_links(folder: Path) -> None:
    """Refuse a folder to write in that holds a link out of it: one from elsewhere must not say where to write.

    Raises:
        UsageError: names the link.
    """
    root = folder.resolve()
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *files)):
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise UsageError(f"{path} is a link that leads out of {folder}, where this command would write. Remove it, or start anew.")


def check_space(folder: Path, needed_bytes: int) -> None:
    """Refuse to begin what the disk cannot hold. What an earlier process left in `folder` is part of what is needed.

    Raises:
        UsageError: less than `needed_bytes` are free where `folder` will be.
    """
    needed_bytes -= sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise UsageError(
            f"no disk space for {folder}: {free / 2**20:.0f} MiB free, about {needed_bytes / 2**20:.0f} MiB needed. "
            "Free some, or choose another folder."
        )
