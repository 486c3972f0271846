"""This machine as a device: folders stay in place, a command is a process group of its own."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from devices.emulator import emulator
from devices.observed import observe, versions
from devices.process import Exit, run_command
from devices.quota import usable_cpus
from devices.reader import Reader
from devices.transports import Facts, Progress, Say, worth_observing

if TYPE_CHECKING:
    from devices.profile import DeviceProfile


class Local:
    """See `devices.transports.Transport`. Nobody waits here."""

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
        if self._profile is not None and worth_observing(self._profile):
            watch = self._profile.watch
            seen = {"state": observe(Reader(), watch), "versions": versions(self._profile.runtimes)}
        return Facts(platform.machine(), usable_cpus(), emulator(), **seen)

    def put(self, folder: Path, progress: Progress | None = None) -> str:
        """The folder itself."""
        return str(folder.resolve())

    def run(self, command: Sequence[str], there: str, on_line: Callable[[str], None], silence_limit_s: float) -> Exit:
        """Run it here; see `devices.process.run_command`."""
        return run_command(command, there, on_line, silence_limit_s)

    def get(self, there: str, folder: Path) -> None:
        """Nothing to do where the folder is in place."""
        if Path(there).resolve() != folder.resolve():
            shutil.copytree(there, folder)
