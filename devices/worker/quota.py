"""The CPU quota of this process's control group: a container with `--cpus 0.5` is stopped for half of every period, whatever is idle.

The kernel enforces the quota of every group from the process's own up to the root. A container sees its own group as the root, or the
host's path to it, which does not exist inside: of the groups on the way those count that are there. Standard library only, Python >= 3.10.

Source: Linux, Documentation/admin-guide/cgroup-v2.rst (cpu.max, cpu.stat) and Documentation/scheduler/sched-bwc.rst (cpu.cfs_quota_us).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from devices.worker.reader import Reader

LARGE_SHARE = 0.6  # of the largest CPU's capacity: Cortex-A55 beside A76 has 0.5, A78 beside X1 0.8

_ROOT = "/sys/fs/cgroup"
_FIRST_VERSION = ("cpu,cpuacct", "cpu", "cpuacct,cpu")  # folders below the root where the controller is mounted; others lead there


@dataclass(frozen=True)
class Quota:
    """What a process may have of the CPUs.

    Attributes:
        cpus: CPUs' worth of time, the least of all groups; None: there is no quota.
        periods, throttled: periods that the groups with a quota have had, and those in which they were stopped.
    """

    cpus: float | None = None
    periods: int = 0
    throttled: int = 0


def read_quota(reader: Reader) -> Quota | None:
    """The quota of this process, None where the kernel does not tell the groups it is in."""
    groups = reader.text("/proc/self/cgroup").splitlines()
    if not groups:
        return None
    found = [(cpus, folder) for folder in _folders(reader, groups) if (cpus := _cpus(reader, folder)) is not None]
    counts = [_counts(reader, folder) for _, folder in found]
    return Quota(min((cpus for cpus, _ in found), default=None), sum(c[0] for c in counts), sum(c[1] for c in counts))


def usable_cpus(reader: Reader | None = None) -> int:
    """How many threads can compute at once here: no more than the CPUs that this process may use, nor than its quota of them."""
    quota = read_quota(reader or Reader())
    allowed = len(os.sched_getaffinity(0))
    return allowed if quota is None or quota.cpus is None else max(1, min(allowed, int(quota.cpus)))


def allowed_cpus() -> list[int]:
    """The CPUs that this process may use, by number."""
    return sorted(os.sched_getaffinity(0))


def fast_cpus(reader: Reader | None = None, allowed: list[int] | None = None) -> list[int]:
    """Of those CPUs, the large ones where large and small are in one processor (big.LITTLE), else all.

    By the kernel's own word, `cpu_capacity` (Documentation/ABI/testing/sysfs-devices-system-cpu): 1024 is the largest CPU there is, a
    small one of the boards that have both reaches about half of it and less.
    """
    reader, allowed = reader or Reader(), allowed_cpus() if allowed is None else allowed
    found = {cpu: reader.number(f"/sys/devices/system/cpu/cpu{cpu}/cpu_capacity") or 0.0 for cpu in allowed}
    least = LARGE_SHARE * max(found.values(), default=0.0)
    return [cpu for cpu, capacity in found.items() if capacity >= least]


def _folders(reader: Reader, groups: list[str]) -> Iterator[str]:
    """The folders of the process's groups and of those above them. A line is ID:CONTROLLERS:PATH; version 2 has ID 0."""
    for line in groups:
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0":
            roots = [_ROOT]
        elif "cpu" in controllers.split(","):
            roots = [root for name in _FIRST_VERSION for root in reader.paths(f"{_ROOT}/{name}")][:1]
        else:
            continue
        group = PurePosixPath("/", *(part for part in path.split("/") if part not in ("", "..")))
        for root in roots:
            yield from (root + str(above).rstrip("/") for above in (group, *group.parents))


def _cpus(reader: Reader, folder: str) -> float | None:
    quota, _, period = reader.text(f"{folder}/cpu.max").partition(" ")
    if not quota:
        quota, period = reader.text(f"{folder}/cpu.cfs_quota_us"), reader.text(f"{folder}/cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _counts(reader: Reader, folder: str) -> tuple[int, int]:
    fields = dict(line.partition(" ")[::2] for line in reader.text(f"{folder}/cpu.stat").splitlines())
    periods, throttled = (fields.get(name, "") for name in ("nr_periods", "nr_throttled"))
    return int(periods) if periods.isdigit() else 0, int(throttled) if throttled.isdigit() else 0
