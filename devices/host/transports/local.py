"""This machine as a device: folders stay in place, a command is a process group of its own."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from devices.host.channel import Channel
from devices.host.transports import Facts, Progress, Say
from devices.worker.emulator import emulator

if TYPE_CHECKING:
    from devices.host.profile import DeviceProfile


class Local:
    """See `devices.host.transports.Transport`. Nothing of the profile matters here, and nobody waits."""

    python: tuple[str, ...] = (sys.executable,)

    def __init__(self, profile: DeviceProfile | None = None, say: Say | None = None) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def facts(self) -> Facts:
        """Of this machine."""
        return Facts(platform.machine(), len(os.sched_getaffinity(0)), emulator())

    def put(self, folder: Path, progress: Progress | None = None) -> str:
        """The folder itself."""
        return str(folder.resolve())

    def open(self, command: Sequence[str], there: str) -> Channel:
        """Start it here."""
        return Channel(command, there)
