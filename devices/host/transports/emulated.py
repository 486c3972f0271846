"""Another CPU, emulated on this machine by QEMU's user mode: the same folders and processes as `local`, another Python command.

The real kernels of the runtime for that CPU run, so logits are what the CPU gives. Time and memory are the emulator's.
"""

from __future__ import annotations

import platform
import shutil
import sys
import sysconfig
from pathlib import Path

from devices.host.errors import DeviceError
from devices.host.profile import DeviceProfile
from devices.host.sysroot import Sysroot
from devices.host.transports import Facts, Say
from devices.host.transports.local import Local
from devices.worker.emulator import EMULATED_CPU

THREADS = 1  # more only make an emulator slower
INSTALL_QEMU = "apt-get install -y qemu-user-static"

_ELF_X86_64 = (b"\x7fELF\x02", 62)  # ELF header: magic and 64-bit class, then e_machine at byte 18


class Emulated(Local):
    """See `devices.host.transports.Transport`.

    Raises:
        DeviceError: QEMU or the sysroot is not there, or this machine's Python cannot be emulated.
    """

    def __init__(self, profile: DeviceProfile, say: Say | None = None) -> None:
        emulation = profile.emulation
        assert emulation is not None  # noqa: S101 - `read_profile` saw to it
        qemu = find_qemu(emulation.machine)
        if emulation.packages:
            variables, interpreter = _guest(Sysroot.of(emulation), profile.name)
        else:
            variables, interpreter = _own()
        self._facts = Facts(emulation.machine, THREADS, f"{emulation.cpu}, emulated by {Path(qemu).name}")
        variables = {**variables, "PYTHONNOUSERSITE": "1", EMULATED_CPU: str(self._facts.emulator)}
        # `env` sets them: QEMU's own option -E splits at commas
        self.python = ("env", *(f"{name}={value}" for name, value in variables.items()), qemu, "-cpu", emulation.cpu, *interpreter)

    def facts(self) -> Facts:
        """Of the emulated CPU."""
        return self._facts


def find_qemu(machine: str) -> str:
    """The path of QEMU's user mode for a machine.

    Raises:
        DeviceError: it is not installed.
    """
    for name in (f"qemu-{machine}-static", f"qemu-{machine}"):
        if found := shutil.which(name):
            return found
    raise DeviceError(f"qemu-{machine}-static is not installed on this machine. Install it: {INSTALL_QEMU}")


def _guest(sysroot: Sysroot, device: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Variables and command of the Python in a sysroot."""
    if not sysroot.finished:
        raise DeviceError(f"the sysroot of {device} is not built. Build it: harness devices prepare {device}")
    return sysroot.variables, ("-L", str(sysroot.root), str(sysroot.python))


def _own() -> tuple[dict[str, str], tuple[str, ...]]:
    """Variables and command of this very Python. Its binary runs without its virtual environment, so it is told where the packages are."""
    packages = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    return {"PYTHONPATH": ":".join(packages)}, (str(_own_binary()),)


def _own_binary() -> Path:
    """This process's interpreter. QEMU runs machine code, no launcher script."""
    binary = Path(sys.executable).resolve()
    magic, machine = _ELF_X86_64
    with binary.open("rb") as file:
        header = file.read(20)
    if not header.startswith(magic) or int.from_bytes(header[18:20], "little") != machine:
        raise DeviceError(
            f"{binary} is not an x86-64 program (this machine is {platform.machine()}). To emulate an x86-64 CPU, run the harness "
            f"with an x86-64 Python for Linux itself, not with a launcher script."
        )
    return binary
