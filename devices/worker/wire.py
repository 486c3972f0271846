"""Messages over a pair of pipes, one at each end of an SSH session: JSON objects, one a line, with raw bytes after some. Standard library.

Both ends speak within `BEAT_S` while they live, so silence means that the connection is gone, although nothing has said so yet.
"""

from __future__ import annotations

import json
import math
import os
import select
import time
from collections.abc import Iterator
from typing import Any

from devices.worker.plain import read_json

BEAT_S = 5.0
BEAT = {"beat": 1}
SILENCE_S = 45.0
CHUNK = 1 << 18

_LONGEST = 1 << 24  # of a message; a list of a thousand files fits many times


class ClosedError(Exception):
    """The other end is gone: a dropped connection, a reboot, or a process that ended."""


class NonsenseError(ClosedError):
    """The other end is there, but what it says is no message: opening the connection again would not help."""


class SilentError(ClosedError):
    """The other end is there, as far as is known, and neither says nor takes anything."""


class Wire:
    """One end. Reads and writes wait for `silence_s` at most."""

    def __init__(self, read_fd: int, write_fd: int, silence_s: float | None = None) -> None:
        self.fds = self._in, self._out = read_fd, write_fd
        self._silence_s = SILENCE_S if silence_s is None else silence_s
        self._buffer = bytearray()
        self._heard = self._spoke = time.monotonic()
        os.set_blocking(read_fd, False)
        os.set_blocking(write_fd, False)

    def send(self, message: dict[str, Any]) -> None:
        """Send one message.

        Raises:
            ClosedError: the other end is gone, or takes nothing any more.
        """
        self.write(json.dumps(message).encode() + b"\n")

    def write(self, raw: bytes, limit_s: float | None = None) -> None:
        """Send raw bytes. Waits `limit_s` for the other end to take some more, by default `silence_s`.

        Raises:
            ClosedError: as `send`.
        """
        left, limit_s = memoryview(raw), self._silence_s if limit_s is None else limit_s
        while left:
            if not _ready(self._out, select.POLLOUT, limit_s):
                raise SilentError(f"nothing could be sent for {limit_s:g} s")
            try:
                left = left[os.write(self._out, left[:CHUNK]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise ClosedError(str(error)) from error
            self._spoke = time.monotonic()

    def receive(self, limit_s: float | None = None) -> dict[str, Any]:
        """The next message that is not a beat. Sends a beat where this end has been silent for `BEAT_S`, however much the other one says.

        Raises:
            ClosedError: the other end is gone, or has been silent for `silence_s`.
            NonsenseError: it says what is no message, or nothing but beats for `limit_s`.
        """
        began = time.monotonic()
        while time.monotonic() - max(self._heard, began) < self._silence_s:
            if limit_s is not None and time.monotonic() - began > limit_s:
                raise NonsenseError(f"nothing but beats came for {limit_s:g} s")
            if time.monotonic() - self._spoke > BEAT_S:
                self.send(BEAT)
            if (line := self.line(BEAT_S)) is None:
                continue
            try:
                message = read_json(line)
            except ValueError as error:
                raise NonsenseError(f"not a message: {line[:80]!r} ({error})") from error
            if not isinstance(message, dict):
                raise NonsenseError(f"not a message: {line[:80]!r}")
            if message != BEAT:
                return message
        raise ClosedError(f"nothing came for {self._silence_s:g} s")

    def check(self, wait_s: float) -> None:
        """Wait, where the other end has nothing to say but beats.

        Raises:
            ClosedError: it is gone, or has been silent for `silence_s`.
        """
        if self.line(wait_s) is None and time.monotonic() - self._heard > self._silence_s:
            raise ClosedError(f"nothing came for {self._silence_s:g} s")

    def line(self, limit_s: float) -> bytes | None:
        """The next line without its end, None where none is complete within `limit_s`.

        Raises:
            ClosedError: the other end is gone.
            NonsenseError: the line has no end.
        """
        stop = time.monotonic() + limit_s
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _LONGEST:
                raise NonsenseError("a message without an end")
            if not self._fill(stop - time.monotonic()):
                return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def read(self, size: int) -> Iterator[bytes]:
        """`size` raw bytes, in pieces.

        Raises:
            ClosedError: the other end is gone or silent before that.
        """
        while size > 0:
            if not self._buffer and not self._fill(self._silence_s):
                raise ClosedError(f"nothing came for {self._silence_s:g} s")
            piece = bytes(self._buffer[:size])
            del self._buffer[: len(piece)]
            size -= len(piece)
            yield piece

    def exactly(self, size: int, limit_s: float) -> bytes:
        """`size` raw bytes.

        Raises:
            ClosedError: the other end is gone, or they did not come within `limit_s`.
        """
        stop = time.monotonic() + limit_s
        while len(self._buffer) < size:
            if time.monotonic() > stop or not self._fill(stop - time.monotonic()):
                raise SilentError(f"{len(self._buffer)} of {size} bytes came within {limit_s:g} s")
        raw = bytes(self._buffer[:size])
        del self._buffer[:size]
        return raw

    @property
    def pending(self) -> bool:
        """Whether something has come that nobody read yet."""
        return bool(self._buffer) or self._fill(0.0)

    def _fill(self, limit_s: float) -> bool:
        """Read what there is; False where nothing comes within `limit_s`."""
        if not _ready(self._in, select.POLLIN, limit_s):
            return False
        try:
            got = os.read(self._in, CHUNK)
        except BlockingIOError:
            return False
        except OSError as error:
            raise ClosedError(str(error)) from error
        if not got:
            raise ClosedError("the connection was closed")
        self._buffer += got
        self._heard = time.monotonic()
        return True


def _ready(fd: int, event: int, limit_s: float) -> bool:
    """Whether `fd` can be read, or written, or its other end is gone, within `limit_s`. `select` takes no number from 1,024 on."""
    waiting = select.poll()
    waiting.register(fd, event)
    return bool(waiting.poll(math.ceil(1e3 * max(limit_s, 0.0))))
