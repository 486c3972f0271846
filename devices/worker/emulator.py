"""Whether this very process runs under an emulator: its time and memory say nothing of the device then. Standard library only."""

from __future__ import annotations

import os
from pathlib import Path

EMULATED_CPU = "EDGE_HARNESS_EMULATED_CPU"  # names the CPU to a worker under emulation, where /proc/cpuinfo is the workstation's

_COMM = Path("/proc/self/comm")


def emulator() -> str | None:
    """The emulator, None where nothing betrays one.

    QEMU's user mode shows itself: it is the kernel's name of the process. A whole machine that is emulated cannot be told from inside.
    """
    if declared := os.environ.get(EMULATED_CPU):
        return declared
    try:
        name = _COMM.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return name if name.startswith("qemu-") else None
