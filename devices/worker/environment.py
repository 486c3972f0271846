"""What the machine looks like while it measures, read from /proc and /sys. Standard library and numpy, Python >= 3.10.

A fact that cannot be read is None, never a guess.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from devices.worker.emulator import EMULATED_CPU, emulator
from devices.worker.quota import read_quota
from devices.worker.reader import Reader

# Extensions that choose other integer or half-precision kernels, x86-64 then AArch64 (asimd is NEON, asimddp its dot product).
ISA_FLAGS = (
    "sse4_1", "avx", "avx2", "fma", "f16c",
    "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16",
    "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip

CLOCK_SKEW = "EDGE_HARNESS_CLOCK_SKEW_S"  # how far this machine's clock is ahead of the workstation's, where anyone compared

_GOVERNOR = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"


def describe_machine(reader: Reader | None = None) -> dict[str, Any]:
    """What stays the same during a run: CPU, instruction set, kernel, Python, affinity."""
    reader = reader or Reader()
    cpu, emulated = reader.text("/proc/cpuinfo"), os.environ.get(EMULATED_CPU)
    listed = _field(cpu, "flags") or _field(cpu, "Features")
    ask = listed is None or (emulator() is not None and not reader.recorded)  # under an emulator the file is the workstation's
    flags = _answered() if ask else set((listed or "").split())
    return {
        "cpu_model": emulated or _field(cpu, "model name") or _arm_part(cpu) or platform.processor() or None,
        "isa_flags": [flag for flag in ISA_FLAGS if flag in flags],
        "cpus": os.cpu_count(),
        "affinity": sorted(os.sched_getaffinity(0)),
        "quota_cpus": quota.cpus if (quota := read_quota(reader)) else None,
        "machine": platform.machine(),
        "emulator": emulator(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "clock_skew_s": float(os.environ[CLOCK_SKEW]) if CLOCK_SKEW in os.environ else None,
    }


class CpuTicks(NamedTuple):
    """Ticks of CPUs since boot: stolen by the hypervisor, spent by programs, and in all."""

    steal: int
    busy: int
    total: int


def own_cpus(reader: Reader) -> frozenset[int]:
    """The CPUs that this process may use; none of a recorded tree, which is another machine's."""
    return frozenset() if reader.recorded else frozenset(os.sched_getaffinity(0))


def cpu_ticks(reader: Reader, cpus: Collection[int] = ()) -> CpuTicks | None:
    """From /proc/stat (proc(5): user nice system idle iowait irq softirq steal); None where it is not there.

    Of those `cpus` alone, where they are not all there are: what takes the one CPU of a job is little of the time of sixty-four, and what
    the others do takes nothing of it.
    """
    rows = {name: fields for name, *fields in map(str.split, reader.text("/proc/stat").splitlines()) if name.startswith("cpu")}
    some = [rows[name] for cpu in cpus if (name := f"cpu{cpu}") in rows]
    chosen = some if 0 < len(some) == len(cpus) < len(rows) - 1 else [rows.get("cpu", [])]
    if any(len(fields) < 8 for fields in chosen):
        return None
    user, nice, system, idle, iowait, irq, softirq, steal = np.array([fields[:8] for fields in chosen], np.int64).sum(axis=0).tolist()
    busy = user + nice + system + irq + softirq
    return CpuTicks(steal, busy, busy + idle + iowait + steal)


@dataclass(frozen=True)
class _Moment:
    """Ticks of the CPUs that this process may use, and of it alone."""

    all: CpuTicks
    own: float

    @classmethod
    def now(cls, reader: Reader) -> _Moment:
        own = time.process_time() * os.sysconf("SC_CLK_TCK")
        return cls(cpu_ticks(reader, own_cpus(reader)) or CpuTicks(0, 0, 0), own)

    def steal_share(self, before: _Moment) -> float | None:
        """Share of the CPU time since `before` that the hypervisor took."""
        total = self.all.total - before.all.total
        return (self.all.steal - before.all.steal) / total if total > 0 else None

    def others_share(self, before: _Moment) -> float | None:
        """Share of the CPU time since `before` that other programs took."""
        total = self.all.total - before.all.total
        others = self.all.busy - before.all.busy - (self.own - before.own)
        return max(others, 0.0) / total if total > 0 else None


class Load:
    """The machine's other work: while this process sleeps for `idle_s` seconds at construction, and from then on to `describe`.

    The load average cannot tell: it still remembers what the harness itself did a minute ago. Without a sleep nothing is said of it.
    """

    def __init__(self, idle_s: float = 0.0, reader: Reader | None = None) -> None:
        self._reader = reader or Reader()
        self._load = os.getloadavg()[0]
        self._idle_share = None
        self._start = _Moment.now(self._reader)
        if idle_s > 0:
            before = self._start
            time.sleep(idle_s)
            self._start = _Moment.now(self._reader)
            self._idle_share = self._start.others_share(before)

    def describe(self) -> dict[str, Any]:
        """What was seen.

        One-minute load averages before and after, share of the CPU time taken by other programs before, share taken by the hypervisor
        meanwhile, frequency governor. Other programs meanwhile are not told: to this process, the other engines of a run are among them.
        """
        now = _Moment.now(self._reader)
        return {
            "load_average_before": self._load,
            "load_average_after": os.getloadavg()[0],
            "others_share_before": self._idle_share,
            "steal_share": now.steal_share(self._start),
            "governor": self._reader.text(_GOVERNOR) or None,
        }


def resident_bytes(peak: bool) -> int | None:
    """This process's resident set, now or at its highest. From /proc: unlike `ru_maxrss` it does not remember the parent's."""
    value = _field(Reader("/").text("/proc/self/status"), "VmHWM" if peak else "VmRSS")
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
