"""This machine as a device: folders stay in place, a command is a process group of its own."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from devices.errors import DeviceError
from devices.transports import Exit

if TYPE_CHECKING:
    from devices.profile import DeviceProfile

STDERR_LINES = 20
LINE_LENGTH = 500

_POLL_S = 0.01


class Local:
    """See `devices.transports.Transport`. Nothing of the profile matters here."""

    python: tuple[str, ...] = (sys.executable,)

    def __init__(self, profile: DeviceProfile | None = None) -> None:
        pass

    def put(self, folder: Path) -> str:
        """The folder itself."""
        return str(folder.resolve())

    def run(self, command: Sequence[str], there: str, on_line: Callable[[str], None], silence_limit_s: float) -> Exit:
        """Run in a session of its own, so that the whole group can be killed and a Ctrl-C at the terminal reaches only the caller."""
        try:
            process = subprocess.Popen(
                command, cwd=there, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            raise DeviceError(f"cannot run {command[0]} in {there}: {error.strerror or error}") from error
        lines: queue.Queue[str | None] = queue.Queue()
        stderr: deque[str] = deque(maxlen=STDERR_LINES)
        readers = [_read(process.stdout, lines.put, lambda: lines.put(None)), _read(process.stderr, stderr.append, lambda: None)]
        hung = True
        try:
            while (line := lines.get(timeout=silence_limit_s)) is not None:
                on_line(line)
            hung = not _ends(process.pid, silence_limit_s)
        except queue.Empty:
            pass
        finally:
            # The leader is not reaped yet, so its number still names this group and no other.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for reader in readers:
                reader.join(timeout=1)  # a stray that left the group may hold the pipe open
        return Exit(process.returncode, hung, tuple(stderr))

    def get(self, there: str, folder: Path) -> None:
        """Nothing to do where the folder is in place."""
        if Path(there).resolve() != folder.resolve():
            shutil.copytree(there, folder)


def _read(stream: IO[bytes] | None, take: Callable[[str], None], end: Callable[[], None]) -> threading.Thread:
    """Read lines in a thread of its own, so that neither pipe can fill up and block the command."""
    assert stream is not None  # noqa: S101 - both are pipes

    def pump() -> None:
        with stream:
            for line in stream:
                take(line.decode(errors="replace").rstrip("\n")[:LINE_LENGTH])
        end()

    thread = threading.Thread(target=pump, daemon=True)
    thread.start()
    return thread


def _ends(pid: int, limit_s: float) -> bool:
    """Wait for a child that closed its output, without reaping it; False where it still runs after `limit_s`."""
    stop = time.monotonic() + limit_s
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > stop:
            return False
        time.sleep(_POLL_S)
    return True
