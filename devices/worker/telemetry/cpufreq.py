"""Frequency of each CPU that the job may use, from cpufreq: `frequency_hz:cpuN`."""

from __future__ import annotations

import os

from devices.worker.reader import Reader
from devices.worker.spec import Watch
from devices.worker.telemetry.source import AbsentError, Poll, Sample

MOST = 8  # on some kernels every reading interrupts the CPU it asks about


def open_source(reader: Reader, watch: Watch) -> Poll:
    """The first `MOST` CPUs of the process's affinity.

    Raises:
        AbsentError: the kernel tells no frequency, as in most virtual machines.
    """
    cpus = sorted(os.sched_getaffinity(0)) if not reader.recorded else range(MOST)
    files = {cpu: f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq" for cpu in cpus}
    there = {cpu: file for cpu, file in files.items() if reader.number(file) is not None}
    if not there:
        raise AbsentError("no /sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq: the kernel does not tell the CPUs' frequencies")

    def sample() -> Sample:
        seen = {f"frequency_hz:cpu{cpu}": reader.number(file) for cpu, file in list(there.items())[:MOST]}
        return {channel: 1e3 * kilohertz for channel, kilohertz in seen.items() if kilohertz is not None}

    return Poll(sample)
