"""CPU time of all programs on the CPUs of this job, of the job itself and of the hypervisor, from /proc: `ticks:busy`, `ticks:own`,
`ticks:steal`, `ticks:total`.

And what this job's control group may have of it: `quota:cpus` (0: all), and of the periods so far `quota:periods` and `quota:throttled`.
"""

from __future__ import annotations

import os

from devices.worker.environment import cpu_ticks, own_cpus
from devices.worker.quota import read_quota
from devices.worker.reader import Reader
from devices.worker.spec import Watch
from devices.worker.telemetry.source import AbsentError, Poll, Sample


def open_source(reader: Reader, watch: Watch) -> Poll:
    """Ticks since boot, of the CPUs that this process may use. Own are those of the process that asked for the sampling, of the sampler and
    of the commands it started.

    Raises:
        AbsentError: /proc/stat is not there.
    """
    if cpu_ticks(reader) is None:
        raise AbsentError("no /proc/stat")
    own, cpus = {os.getppid(), os.getpid()}, own_cpus(reader)

    def sample() -> Sample:
        ticks = cpu_ticks(reader, cpus)
        if ticks is None:
            return {}
        children = reader.text(f"/proc/self/task/{os.getpid()}/children").split()
        pids = own | {int(pid) for pid in children}
        return {
            "ticks:busy": float(ticks.busy),
            "ticks:steal": float(ticks.steal),
            "ticks:total": float(ticks.total),
            "ticks:own": float(sum(_process_ticks(reader, pid) for pid in pids)),
            **_quota(reader),
        }

    return Poll(sample)


def _quota(reader: Reader) -> Sample:
    """Nothing where the kernel does not tell."""
    if (quota := read_quota(reader)) is None:
        return {}
    return {"quota:cpus": quota.cpus or 0.0, "quota:periods": float(quota.periods), "quota:throttled": float(quota.throttled)}


def _process_ticks(reader: Reader, pid: int) -> int:
    """User and system time of one process (proc(5): fields 14 and 15; the name before them may hold anything but ends at a bracket)."""
    rest = reader.text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(rest[11]) + int(rest[12]) if len(rest) > 12 else 0
