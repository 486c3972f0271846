"""This machine as a device: folders stay in place, a command is a process group of its own."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from devices.host.channel import Channel
from devices.host.errors import DeviceError
from devices.host.fields import read_table
from devices.host.sysroot import cache_folder
from devices.host.transports import Facts, Progress, Say
from devices.host.transports.answers import Cleaned
from devices.worker.emulator import emulator
from devices.worker.gpu_access import barred
from devices.worker.kept import clear
from devices.worker.loadgen import PACKAGE
from devices.worker.lock import DeviceLock
from devices.worker.observed import observe, versions
from devices.worker.plain import printable
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
            platform.machine(),
            usable_cpus(),
            emulator(),
            absent=absent,
            allowed=tuple(allowed_cpus()),
            fast=tuple(fast_cpus()),
            gpu_barred=barred(Reader()),
            **seen,
        )

    def put(self, folder: Path, progress: Progress | None = None) -> str:
        """The folder itself."""
        return str(folder.resolve())

    def open(self, command: Sequence[str], there: str) -> Channel:
        """Start it here."""
        return Channel(command, there)

    def clean(self) -> Cleaned:
        """What runs of this user left here, those that came by SSH among them."""
        try:
            with closing(DeviceLock()) as lock:
                if (holder := lock.acquire(f"harness devices clean, process {os.getpid()}", "clean")) is not None:
                    raise DeviceError(f"this machine is in use by {printable(str(holder.get('who') or 'a run'))}; clean it afterwards")
                cleaned = read_table(Cleaned, clear(cache_folder()))
                lock.release()
        except OSError as error:
            raise DeviceError(f"{error.filename or cache_folder()}: {error.strerror or error}") from error
        return cleaned
