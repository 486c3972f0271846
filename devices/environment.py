"""What the machine looks like while it measures, read from /proc and /sys. Standard library and numpy, Python >= 3.10.

A fact that cannot be read is None, never a guess.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np

# Extensions that choose other integer or half-precision kernels, x86-64 then AArch64 (asimd is NEON, asimddp its dot product).
ISA_FLAGS = (
    "sse4_1", "avx", "avx2", "fma", "f16c",
    "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16",
    "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip

EMULATED_CPU = "EDGE_HARNESS_EMULATED_CPU"  # names the CPU to a worker under emulation, where /proc/cpuinfo is the workstation's

_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def describe_machine() -> dict[str, Any]:
    """What stays the same during a run: CPU, instruction set, kernel, Python, affinity."""
    cpu, emulated = _read("/proc/cpuinfo"), os.environ.get(EMULATED_CPU)
    flags = _answered() if emulated else set((_field(cpu, "flags") or _field(cpu, "Features") or "").split())
    return {
        "cpu_model": emulated or _field(cpu, "model name") or _arm_part(cpu) or platform.processor() or None,
        "isa_flags": [flag for flag in ISA_FLAGS if flag in flags],
        "cpus": os.cpu_count(),
        "affinity": sorted(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


class Load:
    """The machine's other work between construction and `describe`."""

    def __init__(self) -> None:
        self._load = os.getloadavg()[0]
        self._steal, self._total = _cpu_time()

    def describe(self) -> dict[str, Any]:
        """One-minute load average before and after, share of CPU time stolen by the hypervisor in between, frequency governor."""
        steal, total = _cpu_time()
        return {
            "load_average_before": self._load,
            "load_average_after": os.getloadavg()[0],
            "steal_share": (steal - self._steal) / (total - self._total) if total > self._total else None,
            "governor": _read(_GOVERNOR).strip() or None,
        }


def resident_bytes(peak: bool) -> int | None:
    """This process's resident set, now or at its highest. From /proc: unlike `ru_maxrss` it does not remember the parent's."""
    value = _field(_read("/proc/self/status"), "VmHWM" if peak else "VmRSS")
    return int(value.split()[0]) * 1024 if value else None


def _answered() -> set[str]:
    """Extensions that the processor itself admits to (CPUID, or the auxiliary vector), as numpy asks it when it is imported."""
    features = importlib.import_module("numpy._core._multiarray_umath").__cpu_features__
    return {flag for flag in ISA_FLAGS if features.get("FMA3" if flag == "fma" else flag.replace("_", "").upper())}


def _cpu_time() -> tuple[int, int]:
    """Stolen and total ticks of all CPUs since boot (proc(5): user nice system idle iowait irq softirq steal)."""
    ticks = [int(value) for value in _read("/proc/stat").partition("\n")[0].split()[1:9]]
    return (ticks[7], sum(ticks)) if len(ticks) == 8 else (0, 0)


def _arm_part(cpu: str) -> str | None:
    implementer, part = _field(cpu, "CPU implementer"), _field(cpu, "CPU part")
    return f"implementer {implementer} part {part}" if implementer and part else None


def _field(text: str, name: str) -> str | None:
    found = re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else None


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
