"""A folder of files named after the SHA-256 of their bytes, so that each travels once. Standard library only, Python >= 3.10."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from devices.worker.files import sha256_file
from devices.worker.kept import MOST_BYTES, surplus


class DamagedError(Exception):
    """Bytes that arrived are not those that were sent."""


class Store:
    """The store in `folder`, which is made where it does not exist. One process at a time writes to it: the holder of the device's lock."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder

    def have(self, sha256: str) -> bool:
        """Whether the file is here with these very bytes. One that changed is thrown away."""
        path = self._folder / sha256
        if not path.is_file():
            return False
        if sha256_file(path) == sha256:
            os.utime(path)
            return True
        path.unlink()
        return False

    def begun(self, sha256: str) -> int:
        """Bytes that are here of a file whose upload was broken off."""
        part = self._part(sha256)
        return part.stat().st_size if part.is_file() else 0

    def receive(self, sha256: str, offset: int, pieces: Iterator[bytes]) -> None:
        """Take the bytes from `offset` on; the file is there once its hash is right.

        Every piece is taken from `pieces`, whatever happens.

        Raises:
            DamagedError: the hash is wrong, or the upload does not go on where it stopped; nothing of it is kept.
            OSError: the disk is full (nothing of it is kept) or not writable.
        """
        part = self._part(sha256)
        try:
            with part.open("ab") as file:
                if file.tell() != offset:
                    raise DamagedError(f"{file.tell()} bytes are here; the upload went on at {offset}")
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            if (found := sha256_file(part)) != sha256:
                raise DamagedError(f"sha256 {found[:12]}…, expected {sha256[:12]}…")
        except (DamagedError, OSError):
            part.unlink(missing_ok=True)
            for _ in pieces:
                pass
            raise
        part.chmod(0o444)
        part.replace(self._folder / sha256)

    def link(self, sha256: str, path: Path) -> None:
        """Put a file of the store at `path`: a hard link, or a copy where there are none."""
        try:
            os.link(self._folder / sha256, path)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            shutil.copyfile(self._folder / sha256, path)

    def free_bytes(self) -> int:
        """Free space of the disk."""
        return shutil.disk_usage(self._folder).free

    def trim(self, coming_bytes: int, keep: set[str]) -> dict[str, int]:
        """Throw away what is longest unused, so that with `coming_bytes` more no more than `MOST_BYTES` are here; what `keep` names stays.

        Returns:
            Name of each file -> its bytes.
        """
        gone = surplus(self._folder.iterdir(), MOST_BYTES - coming_bytes, keep)
        for path in gone:
            path.unlink()
        return {path.name: size for path, size in gone.items()}

    def make_room(self, needed_bytes: int, keep: set[str], before: Callable[[], None]) -> None:
        """Throw files away until `needed_bytes` are free: first what `before` throws away, then those longest unused.

        Files named in `keep` stay.
        """
        if self.free_bytes() < needed_bytes:
            before()
        for path in sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime):
            if self.free_bytes() >= needed_bytes:
                return
            if path.name.partition(".")[0] not in keep:
                path.unlink()

    def _part(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.part"
