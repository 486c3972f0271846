"""How to reach a device: put a folder there, run a command there, bring a folder back. Knows nothing of jobs, runtimes or results.

A new transport is one file and one line in `TRANSPORTS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from devices.errors import DeviceError

if TYPE_CHECKING:
    from devices.profile import DeviceProfile

EMULATED, SSH = "emulated", "ssh"
TRANSPORTS = {
    "local": "devices.transports.local:Local",
    EMULATED: "devices.transports.emulated:Emulated",
    SSH: "devices.transports.ssh:Ssh",
}


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


class Transport(Protocol):
    """A way to one device. All three raise `DeviceError` where the device cannot be reached.

    Attributes:
        python: the command that starts Python at the other end.
    """

    python: tuple[str, ...]

    def put(self, folder: Path) -> str:
        """Copy `folder` to the device; returns where it lies there."""

    def run(self, command: Sequence[str], there: str, on_line: Callable[[str], None], silence_limit_s: float) -> Exit:
        """Run `command` in the folder `there`; `on_line` gets each line of its standard output as it comes.

        A command that prints nothing for `silence_limit_s` is killed, with all it started; so is one whose caller is interrupted.
        """

    def get(self, there: str, folder: Path) -> None:
        """Copy the folder `there` back to `folder`, which does not exist yet (or is that very folder)."""


def connect(profile: DeviceProfile) -> Transport:
    """The way to a device, made from its profile. Starts nothing there, but sees that what is needed here is there.

    Raises:
        DeviceError: no transport reaches it, or something is missing on this machine; the message names the remedy.
    """
    if profile.transport is None:
        raise DeviceError(f"{profile.name} cannot be reached yet. Its CPU can be emulated here: add --emulate.")
    module, _, name = TRANSPORTS[profile.transport].partition(":")
    made: Transport = getattr(importlib.import_module(module), name)(profile)
    return made
