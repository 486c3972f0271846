"""One run of a user at a time on a device: a lock on the device itself, from wherever that user logs in. Runs there; standard library only.

The kernel holds it (`flock`) for the processes that inherited it and frees it when the last of them is gone, by a crash or a restart too:
a lock cannot outlive its holder, whatever the file still says. The file tells those who wait for whom.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from pathlib import Path
from typing import Any

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


NAME = "edge-harness.lock"
LOGINS = Path("/run/user")  # where a login's runtime folder is, by the number of its user


def lock_path() -> Path:
    """The lock's file, in a folder of this user alone: in one that all share, anybody could hold it for ever.

    `$XDG_RUNTIME_DIR`, or what a login would set it to, so that a run with and one without that variable meet; else
    `$XDG_CACHE_HOME/edge-harness`, by default below `~/.cache`, which is made.

    Raises:
        OSError: there is no such folder, or it is open to others.
    """
    named = os.environ.get("XDG_RUNTIME_DIR")
    for folder in (Path(named) if named else None, LOGINS / str(os.getuid())):
        if folder is not None and _is_own(folder):
            return folder / NAME
    try:
        own = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "edge-harness"
    except RuntimeError as error:
        raise FileNotFoundError(errno.ENOENT, "this user has no home folder: set HOME or XDG_CACHE_HOME", "~/.cache") from error
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_own(own):
        own.chmod(0o700)  # of another user: PermissionError
    return own / NAME


def _is_own(folder: Path) -> bool:
    """Whether it is this user's, and nobody else may write there. `su` and `sudo` leave the variable of whoever called them."""
    try:
        mode, owner = folder.stat().st_mode, _owner(folder)
    except OSError:
        return False
    return owner == os.getuid() and stat.S_ISDIR(mode) and not mode & 0o022


def _owner(folder: Path) -> int:
    return folder.stat().st_uid


class DeviceLock:
    """The lock as one process sees it. It stays held by processes forked while it was, after `close` too."""

    def __init__(self, path: Path | None = None) -> None:
        self._fd = _open(path or lock_path())
        self.left_over: str | None = None  # who held it last, for something else, and did not give it back

    def acquire(self, who: str, token: str) -> dict[str, Any] | None:
        """Try to take it.

        Args:
            who: for those who will wait.
            token: what it is held for.

        Returns:
            None: it is held now. Else what the holder said of itself: `who`, `token`.
        """
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._read()
        before = self._read()
        self.left_over = _left_over(before) if before.get("token") != token else None
        self._write({"who": who, "token": token, "pid": os.getpid(), "boot_id": boot_id()})
        return None

    def release(self) -> None:
        """Give it back, although a forked process may still have it open."""
        self._write({})
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of it; a forked process keeps it."""
        os.close(self._fd)

    def _read(self) -> dict[str, Any]:
        try:
            holder = json.loads(os.pread(self._fd, 1 << 12, 0))
        except (OSError, ValueError):
            return {}
        return holder if isinstance(holder, dict) else {}

    def _write(self, holder: dict[str, Any]) -> None:
        raw = json.dumps(holder).encode()
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, raw, 0)


def _left_over(holder: dict[str, Any]) -> str | None:
    if "who" not in holder:
        return None
    return f"{holder['who']} ({'its process is gone' if holder.get('boot_id') == boot_id() else 'the device has restarted since'})"


def boot_id() -> str:
    """The kernel's random name for the time since the last restart, empty where it has none."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _open(path: Path) -> int:
    """Open the file, or make it; for its user alone."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
