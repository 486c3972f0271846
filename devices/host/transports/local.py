"""This machine as a device: folders stay in place, a command is a process group of its own."""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from devices.host.channel import Channel
from devices.host.transports import Facts, Progress, Say
from devices.worker.emulator import emulator
from devices.worker.loadgen import PACKAGE
from devices.worker.observed import observe, versions
from devices.worker.quota import allowed_cpus, fast_cpus, usable_cpus
from devices.worker.reader import Reader

if TYPE_CHECKING:
    from devices.host.profile import DeviceProfile


class Local:
    """See `devices.host.transports.Transport`. Nobody waits here."""

    python: tuple[str, ...] = (sys.executable,)

    def __init__(self, profile: DeviceProfile | None = None, say: Say | None = None) -> None:
        self._profile = profile

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def facts(self) -> Facts:
        """Of this machine."""
        seen: dict[str, Any] = {}
        if self._profile is not None and not self._profile.synthetic_clock:
            watch = self._profile.watch
            seen = {"state": observe(Reader(), watch), "versions": versions(self._profile.runtimes)}
        absent = () if importlib.util.find_spec(PACKAGE) else (PACKAGE,)
        return Facts(
            platform.machine(), usable_cpus(), emulator(), absent=absent, allowed=tuple(allowed_cpus()), fast=tuple(fast_cpus()), **seen
        )

    def put(self, folder: Path, progress: Progress | None = None) -> str:
        """The folder itself."""
        return str(folder.resolve())

    def open(self, command: Sequence[str], there: str) -> Channel:
        """Start it here."""
        return Channel(command, there)
