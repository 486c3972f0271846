"""How to reach a device: put a folder there, start a program there and talk to it. Knows nothing of engines and runtimes.

A new transport is one file and one line in `TRANSPORTS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from devices.host.channel import Channel
from devices.host.errors import DeviceError
from devices.host.transports.answers import Cleaned

if TYPE_CHECKING:
    from devices.host.profile import DeviceProfile

EMULATED, LOCAL, SSH = "emulated", "local", "ssh"
TRANSPORTS = {
    LOCAL: "devices.host.transports.local:Local",
    EMULATED: "devices.host.transports.emulated:Emulated",
    SSH: "devices.host.transports.ssh:Ssh",
}

Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Facts:
    """What the machine at the other end is.

    Attributes:
        machine: instruction set, as `uname -m` says.
        cpus: that a process may use there.
        emulator: what emulates it, None where nothing does.
        clock_skew_s: how far its clock is ahead of this machine's, to the time that a message takes.
        absent: of numpy and the profile's runtimes, those that its Python has not, as far as that is known before anything runs.
        state: what `devices.worker.observed.observe` saw; empty of a device with a synthetic clock or an emulated one, and without numpy.
        versions: of the profile's runtimes, where `state` is not empty.
        allowed: the CPUs that a process may use there, by number; empty: not known.
        fast: of those, the large ones where large and small are in one processor, else all.
        gpu_barred: why its login may not use the GPU, with the remedy; "" where it may, or there is none.
    """

    machine: str
    cpus: int
    emulator: str | None
    clock_skew_s: float = 0.0
    absent: tuple[str, ...] = ()
    state: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    allowed: tuple[int, ...] = ()
    fast: tuple[int, ...] = ()
    gpu_barred: str = ""


class Transport(Protocol):
    """A way to one device, held for one run. All raise `DeviceError` where the device cannot be reached.

    Attributes:
        python: the command that starts Python at the other end.
    """

    python: tuple[str, ...]

    def __enter__(self) -> Self:
        """Nothing is reached yet."""

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """Leave nothing behind; after an error, the files that were sent are kept."""

    def facts(self) -> Facts:
        """Reach the device and ask what it is."""

    def put(self, folder: Path, progress: Progress) -> str:
        """Copy `folder` to the device; returns where it lies there.

        Waits while another run has the device. `progress` is called with "upload", bytes sent, bytes in all, where anything is sent.
        """

    def open(self, command: Sequence[str], there: str) -> Channel:
        """Start `command` in the folder `there`, or in one below it, to talk to it. It ends with the channel, or with the connection."""

    def clean(self) -> Cleaned:
        """Throw away what earlier runs left on the device. Nothing is in use: over SSH this waits for a run, here it is refused."""


def connect(profile: DeviceProfile, say: Say | None = None) -> Transport:
    """The way to a device, made from its profile. Reaches nothing yet, but sees that what is needed here is there.

    Args:
        profile: of the device.
        say: called with a line when there is something to know: for whom the device is waited for, that a connection was lost.

    Raises:
        DeviceError: something is missing on this machine; the message names the remedy.
    """
    module, _, name = TRANSPORTS[profile.transport].partition(":")
    made: Transport = getattr(importlib.import_module(module), name)(profile, say or (lambda line: None))
    return made


__all__ = ["EMULATED", "LOCAL", "SSH", "TRANSPORTS", "DeviceError", "Facts", "Progress", "Say", "Transport", "connect"]
