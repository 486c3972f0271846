"""A command as a process group of its own, so that all of it can be killed. Standard library only, Python >= 3.10."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

from devices.errors import DeviceError
from devices.plain import printable

STDERR_LINES = 20
LINE_LENGTH = 500

_POLL_S = 0.01
_WAITING = 10_000  # lines; a command that prints faster than it is heard waits
_LONGEST = 1 << 20  # bytes of a line that are read at once


@dataclass(frozen=True)
class Exit:
    """How a command ended.

    Attributes:
        code: its exit code; negative: the signal that killed it.
        hung: it was silent for too long and was killed.
        stderr: its last lines of standard error.
    """

    code: int
    hung: bool
    stderr: tuple[str, ...]


def run_command(command: Sequence[str], folder: str, on_line: Callable[[str], None], silence_limit_s: float) -> Exit:
    """Run in a session of its own, so that the whole group can be killed and a Ctrl-C at the terminal reaches only the caller.

    Args:
        command: program and arguments; no shell reads them.
        folder: to run it in.
        on_line: gets each line of its standard output as it comes.
        silence_limit_s: a command that prints nothing for so long is killed, with all it started; so is one whose caller is interrupted.

    Raises:
        DeviceError: it cannot be started.
    """
    try:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
    except OSError as error:
        raise DeviceError(f"cannot run {command[0]} in {folder}: {error.strerror or error}") from error
    lines: queue.Queue[str | None] = queue.Queue(_WAITING)
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


def _read(stream: IO[bytes] | None, take: Callable[[str], None], end: Callable[[], None]) -> threading.Thread:
    """Read lines in a thread of its own, so that neither pipe can fill up and block the command."""
    assert stream is not None  # noqa: S101 - both are pipes

    def pump() -> None:
        with stream:
            while line := stream.readline(_LONGEST):  # a line without an end comes in pieces
                take(printable(line.decode(errors="replace"), LINE_LENGTH))
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
