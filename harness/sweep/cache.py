"""Finished results by key, and unfinished ones that can be gone on with: `ROOT/KIND/KEY/`."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shutil
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from devices.host.sysroot import cache_folder
from devices.worker.files import write_whole
from harness.errors import UsageError
from harness.settings import check_folder

KEY_LENGTH = 32


class Cache:
    """A folder of results. A finished one is there whole or not at all; each is made by one process at a time.

    Kinds: `networks` (weights, card), `sets` (adversarial sets), `runs` (run folders), `evaluations`.
    """

    def __init__(self, root: Path) -> None:
        if root.exists() and not root.is_dir():
            raise UsageError(f"--cache {root} is a file; expected a folder")
        self.root = root.absolute()

    @classmethod
    def default(cls) -> Cache:
        """The one of this user on this machine: `$XDG_CACHE_HOME/edge-harness/sweep`, else under `~/.cache`."""
        return cls(cache_folder() / "sweep")

    def check(self) -> None:
        """Refuse, before any work, a folder that no result could be kept in. Raises UsageError."""
        check_folder("--cache", self.root)

    def place(self, kind: str, key: str) -> Path:
        """Where a finished result is, or will be."""
        return self.root / kind / key[:KEY_LENGTH]

    def find(self, kind: str, key: str) -> Path | None:
        """The folder of a finished result."""
        place = self.place(kind, key)
        return place if place.is_dir() else None

    def unfinished(self, kind: str, key: str) -> Path:
        """Where a result is being made; what an interrupted process left is there."""
        return self.root / "unfinished" / f"{kind}-{key[:KEY_LENGTH]}"

    @contextmanager
    def making(self, kind: str, key: str, *, anew: bool = False) -> Iterator[Path | None]:
        """A folder to make a result in, None where it is finished. It is kept if the body raises, and becomes the result if not.

        With `anew`, a finished result stays until there is another in its place. Waits while another process makes the same result.
        """
        with self._held(kind, key):
            if not anew and self.find(kind, key) is not None:
                yield None
                return
            folder = self.unfinished(kind, key)
            folder.mkdir(parents=True, exist_ok=True)
            yield folder
            place = self.place(kind, key)
            place.parent.mkdir(parents=True, exist_ok=True)
            old = folder.with_name(f"{folder.name}.old")  # put aside whole: killed at any moment, no part of it counts as a result
            shutil.rmtree(old, ignore_errors=True)
            if place.exists():
                place.rename(old)
            folder.rename(place)
            shutil.rmtree(old, ignore_errors=True)

    @contextmanager
    def holding(self, kind: str, key: str) -> Iterator[Path]:
        """A folder of unfinished work that several results go on from. Waits while another process has it; who needs it last removes it."""
        with self._held(kind, key):
            folder = self.unfinished(kind, key)
            folder.mkdir(parents=True, exist_ok=True)
            yield folder

    @contextmanager
    def _held(self, kind: str, key: str) -> Iterator[None]:
        path = self.root / "locks" / f"{kind}-{key[:KEY_LENGTH]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                print(f"waiting for process {lock.read() or '?'}, which is at the same work ...", file=sys.stderr)
                fcntl.flock(lock, fcntl.LOCK_EX)
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def pack(self, kind: str, key: str) -> bytes:
        """A finished result as a tar archive, to be sent to another machine."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(self.place(kind, key), arcname=".")
        return buffer.getvalue()

    def unpack(self, kind: str, key: str, archive: bytes, *, anew: bool = False) -> None:
        """Take in a result that another machine made; `anew` as in `making`."""
        with self.making(kind, key, anew=anew) as folder:
            if folder is not None:
                shutil.rmtree(folder)  # what this machine had begun itself
                folder.mkdir()
                with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
                    packed.extractall(folder, filter="data")

    def add_files(self, contents: Mapping[str, bytes]) -> Path:
        """Keep files that a task needs on this machine beside one another; returns the first one's path."""
        total = hashlib.sha256()
        for name, content in contents.items():
            total.update(f"{name}:{len(content)}:".encode() + content)
        folder = self.root / "inputs" / total.hexdigest()[:KEY_LENGTH]
        for name, content in contents.items():
            if not (folder / name).exists():
                write_whole(folder / name, content)
        return folder / next(iter(contents))
