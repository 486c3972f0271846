"""What the machine looks like while it measures, read from /proc and /sys. Standard library and numpy, Python >= 3.10.

A fact that cannot be read is None, never a guess.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import time
from dataclasses import dataclass
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


@dataclass(frozen=True)
class _Ticks:
    """Ticks of all CPUs since boot: stolen by the hypervisor, spent by programs, spent by this process, and in all."""

    steal: int
    busy: int
    own: float
    total: int

    @classmethod
    def now(cls) -> _Ticks:
        """From the first line of /proc/stat (proc(5): user nice system idle iowait irq softirq steal)."""
        own = time.process_time() * os.sysconf("SC_CLK_TCK")
        ticks = [int(value) for value in _read("/proc/stat").partition("\n")[0].split()[1:9]]
        if len(ticks) != 8:
            return cls(0, 0, own, 0)
        user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
        return cls(steal, user + nice + system + irq + softirq, own, sum(ticks))

    def steal_share(self, before: _Ticks) -> float | None:
        """Share of the CPU time since `before` that the hypervisor took."""
        total = self.total - before.total
        return (self.steal - before.steal) / total if total > 0 else None

    def others_share(self, before: _Ticks) -> float | None:
        """Share of the CPU time since `before` that other programs took."""
        total = self.total - before.total
        others = self.busy - before.busy - (self.own - before.own)
        return max(others, 0.0) / total if total > 0 else None


class Load:
    """The machine's other work: while this process sleeps for `idle_s` seconds at construction, and from then on to `describe`.

    The load average cannot tell: it still remembers what the harness itself did a minute ago. Without a sleep nothing is said of it.
    """

    def __init__(self, idle_s: float = 0.0) -> None:
        self._load = os.getloadavg()[0]
        self._idle_share = None
        self._start = _Ticks.now()
        if idle_s > 0:
            before = self._start
            time.sleep(idle_s)
            self._start = _Ticks.now()
            self._idle_share = self._start.others_share(before)

    def describe(self) -> dict[str, Any]:
        """What was seen.

        One-minute load averages before and after, share of the CPU time taken by other programs before and meanwhile, share
        taken by the hypervisor meanwhile, frequency governor.
        """
        now = _Ticks.now()
        return {
            "load_average_before": self._load,
            "load_average_after": os.getloadavg()[0],
            "others_share_before": self._idle_share,
            "others_share_meanwhile": now.others_share(self._start),
            "steal_share": now.steal_share(self._start),
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
