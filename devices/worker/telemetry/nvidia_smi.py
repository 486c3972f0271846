"""The first NVIDIA GPU of a workstation or server, by `nvidia-smi` (NVML): power, temperature, clock, load, memory, reasons for throttling.

Not on a Jetson: NVML answers "not supported" there, tegrastats and INA3221 tell instead.
"""

from __future__ import annotations

from contextlib import suppress

from devices.worker.reader import Reader
from devices.worker.spec import Watch
from devices.worker.telemetry.source import AbsentError, Sample, Stream

# NVML's bits of the reasons why a clock is lower than asked for (nvml.h, nvmlClocksEventReasons): hardware slowdown, software and
# hardware thermal slowdown, power brake. Idleness, an application's setting and the power cap are no fault.
FAULTS = 0x08 | 0x20 | 0x40 | 0x80

# Field of --query-gpu -> channel and factor to its unit.
FIELDS = {
    "power.draw": ("power_w:gpu", 1.0),
    "temperature.gpu": ("temperature_c:gpu", 1.0),
    "clocks.sm": ("frequency_hz:gpu", 1e6),
    "clocks.mem": ("frequency_hz:gpu-memory", 1e6),
    "utilization.gpu": ("utilisation:gpu", 0.01),
    "memory.used": ("memory_bytes:gpu", float(1 << 20)),
}
REASONS = "clocks_throttle_reasons.active"  # the name that old and new drivers know


def open_source(reader: Reader, watch: Watch) -> Stream:
    """`nvidia-smi` in a loop of its own at the sampling period.

    Raises:
        AbsentError: there is no driver, or it finds no GPU.
    """
    query = ("nvidia-smi", "--id=0", f"--query-gpu={','.join([*FIELDS, REASONS])}", "--format=csv,noheader,nounits")
    if not reader.output(query):
        raise AbsentError("nvidia-smi does not answer: no NVIDIA driver, or no GPU")
    return Stream((*query, f"--loop-ms={watch.period_ms}"), parse)


def parse(line: str) -> Sample:
    """One line of comma-separated values; a field that the GPU does not support is left out."""
    values = [value.strip() for value in line.split(",")]
    if len(values) != len(FIELDS) + 1:
        return {}
    found: Sample = {}
    for (channel, factor), value in zip(FIELDS.values(), values[:-1], strict=True):
        with suppress(ValueError):
            found[channel] = float(value) * factor
    with suppress(ValueError):
        found["throttled:gpu"] = float(int(values[-1], 16) & FAULTS)
    return found
