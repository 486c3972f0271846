"""A program that is talked to over a pair of pipes: its lines and bytes, the tail of what it says on the side, and how it ended."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, cast

from devices.host.errors import DeviceError
from devices.host.variables import given
from devices.worker.plain import printable
from devices.worker.wire import Wire

STDERR_LINES = 20
LINE_LENGTH = 500
END_S = 5.0  # that a program has to end by itself once it was asked to
OUT_OF_CPU_TIME = "the limit on a process's CPU time (ulimit -t) is reached"
_SSH_FAILED = 255  # the exit code of the ssh client where the connection, not the program, ended
_SHELL_SIGNAL = 128  # a shell's exit code is this much and the signal's number, where one killed the program


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

    def in_words(self, error: str) -> str:
        """What the end of an engine's process tells; `error`: what was noticed of it."""
        if self.hung:
            what = f"it neither answered nor ended and was killed ({error})"
        elif self.code == -signal.SIGKILL:
            what = "it was killed from outside (SIGKILL), most likely for lack of memory; try a smaller batch"
        elif self.code == -signal.SIGXCPU:
            what = f"it was ended from outside: {OUT_OF_CPU_TIME}"
        elif self.code < 0:
            what = f"it died of {_signal_name(-self.code)} in native code"
        else:
            what = f"it ended with exit code {self.code}"
        return f"{what}. Its last words: {printable(' | '.join(self.stderr[-3:]), 1000)}" if self.stderr else what


class Channel:
    """One running program, in a process group of its own: a Ctrl-C at the terminal reaches only the caller, who ends it.

    Attributes:
        remote: another machine runs it, at the other end of an ssh client.
    """

    def __init__(
        self, command: Sequence[str], folder: str | None, *, remote: bool = False, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it.

        Args:
            command: program and arguments; no shell reads them.
            folder: to run it in.
            remote: see the class.
            environment: variables beside those that this process was given.

        Raises:
            DeviceError: it cannot be started.
        """
        self.remote = remote
        try:
            self._process = subprocess.Popen(
                list(command),
                cwd=folder,
                env={**given(), **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            raise DeviceError(f"cannot run {command[0]}: {error.strerror or error}") from error
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101 - both are pipes
        self._wire = Wire(self._process.stdout.fileno(), self._process.stdin.fileno())
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._reader = threading.Thread(target=_drain, args=(self._process.stderr, self._stderr), daemon=True)
        self._reader.start()

    def send(self, raw: bytes, limit_s: float) -> None:
        """Send bytes. Raises ClosedError: it is gone, or takes nothing for `limit_s`."""
        self._wire.write(raw, limit_s)

    def line(self, limit_s: float) -> bytes | None:
        """Its next line, None where none comes within `limit_s`. Raises ClosedError: it is gone, or its line has no end."""
        return self._wire.line(limit_s)

    def read(self, size: int, limit_s: float) -> bytes:
        """`size` bytes of its answer.

        Raises:
            ClosedError: it ended before, or they did not come within `limit_s`.
        """
        return self._wire.exactly(size, limit_s)

    @property
    def pending(self) -> bool:
        """Whether it wrote something that nobody asked for. Raises ClosedError: it is gone."""
        return self._wire.pending

    def over(self) -> bool:
        """Whether the program has ended, by itself or killed."""
        # Not reaped before its group is killed, so that its number still names this group and no other.
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def end(self, wait_s: float = END_S) -> Exit:
        """Close its input, give it `wait_s` to end, then kill it with all that it started."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        hung = True
        stop = time.monotonic() + wait_s
        while hung and time.monotonic() < stop:
            hung = not self.over()
            time.sleep(0.005 if hung else 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(timeout=1)
        with contextlib.suppress(OSError):
            self._process.stdout.close()  # type: ignore[union-attr]
        code = self._process.returncode
        if self.remote and code < 0:  # a signal here ended the ssh client; what it does to a program there, a shell there tells
            code = _SSH_FAILED
        elif self.remote and _SHELL_SIGNAL < code < _SSH_FAILED:
            code = _SHELL_SIGNAL - code
        return Exit(code, hung, tuple(self._stderr))

    def lost(self, ended: Exit) -> bool:
        """Whether the connection ended and not the program, as far as `ended` tells."""
        return self.remote and (ended.code == _SSH_FAILED or ended.hung)


def _drain(stream: IO[bytes] | None, lines: deque[str]) -> None:
    """Keep the last lines of a stream, however much comes: a line without an end is cut."""
    assert stream is not None  # noqa: S101 - it is a pipe
    with io.BufferedReader(cast(io.RawIOBase, stream)) as lines_of, contextlib.suppress(OSError, ValueError):
        while raw := lines_of.readline(4 * LINE_LENGTH):
            if text := printable(raw.decode(errors="replace"), LINE_LENGTH):
                lines.append(text)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
