"""A Jetson's own monitor: GPU load and clock, memory clock, power of the rails, temperatures, from the lines of `tegrastats`.

The GPU stands there in three forms: `GR3D_FREQ 10%@1300` or `10%` (JetPack 4 to 6), `GR3D_FREQ 0%@[1300,1300]` (a clock for each
cluster; JetPack 6 and 7), `GR3D_FREQ @[1000,1000,1000]` (Thor: no load).
"""

from __future__ import annotations

import re

from devices.worker.reader import Reader
from devices.worker.spec import Watch
from devices.worker.telemetry.source import AbsentError, Sample, Stream
from devices.worker.telemetry.thermal import COLDEST_C, MADE_UP

_GPU = re.compile(r"\bGR3D(?:_FREQ)?\s+(?:(\d+)%)?(?:@(?:\[([\d,]+)\]|(\d+)))?")
_MEMORY_CLOCK = re.compile(r"\bEMC_FREQ\s+(?:\d+%)?@(\d+)")
_MEMORY = re.compile(r"\bRAM\s+(\d+)/\d+MB")
_TEMPERATURE = re.compile(r"\b([A-Za-z]\w*)@(-?\d+(?:\.\d+)?)C\b")
# now/average; JetPack 4 leaves the unit out. A rail at rest may read below zero: the sensor's offset, seen on Thor.
_POWER = re.compile(r"\b([A-Z]\w*)\s+(-?\d+)(?:mW)?/-?\d+(?:mW)?(?:/-?\d+(?:mW)?)?(?=\s|$)")


def open_source(reader: Reader, watch: Watch) -> Stream:
    """`tegrastats` at the sampling period.

    Raises:
        AbsentError: the command is not there.
    """
    command = ("tegrastats", "--interval", str(watch.period_ms))
    if not reader.finds(command[0]):
        raise AbsentError("no command tegrastats: it comes with JetPack")
    return Stream(command, parse)


def parse(line: str) -> Sample:
    """What one line tells: watts now (not the running average), degrees, hertz, shares and bytes."""
    found: Sample = {}
    if gpu := _GPU.search(line):
        load, clusters, clock = gpu.groups()
        megahertz = [int(value) for value in (clusters or clock or "").split(",") if value]
        found |= {"utilisation:gpu": int(load) / 100} if load else {}
        found |= {"frequency_hz:gpu": max(megahertz) * 1e6} if megahertz else {}
    if memory := _MEMORY_CLOCK.search(line):
        found["frequency_hz:emc"] = int(memory[1]) * 1e6
    if used := _MEMORY.search(line):
        found["memory_bytes:ram"] = float(int(used[1]) << 20)
    degrees = {name.lower(): float(value) for name, value in _TEMPERATURE.findall(line)}
    found |= {f"temperature_c:{name}": value for name, value in degrees.items() if value > COLDEST_C and name not in MADE_UP}
    found |= {f"power_w:{rail}": int(milliwatts) / 1e3 for rail, milliwatts in _POWER.findall(line) if rail not in ("NC", "RAM", "SWAP")}
    return found
