"""This machine as a device: folders stay in place, a command is a process group of its own."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from devices.emulator import emulator
from devices.process import Exit, run_command
from devices.transports import Facts, Progress, Say

if TYPE_CHECKING:
    from devices.profile import DeviceProfile


class Local:
    """See `devices.transports.Transport`. Nothing of the profile matters here, and nobody waits."""

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

    def run(self, command: Sequence[str], there: str, on_line: Callable[[str], None], silence_limit_s: float) -> Exit:
        """Run it here; see `devices.process.run_command`."""
        return run_command(command, there, on_line, silence_limit_s)

    def get(self, there: str, folder: Path) -> None:
        """Nothing to do where the folder is in place."""
        if Path(there).resolve() != folder.resolve():
            shutil.copytree(there, folder)
