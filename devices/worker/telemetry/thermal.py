"""Temperatures of the kernel's thermal zones: `temperature_c:TYPE`."""

from __future__ import annotations

from devices.worker.reader import Reader
from devices.worker.spec import Watch
from devices.worker.telemetry.source import AbsentError, Poll, Sample

COLDEST_C = -40.0  # a sensor of a unit that is switched off answers -256
MADE_UP = ("pmic", "pmic-die")  # on Jetsons up to Xavier always 100 degrees


def open_source(reader: Reader, watch: Watch) -> Poll:
    """Every zone that answers. Zones of the same type are told apart by their number.

    Raises:
        AbsentError: there is no zone, as in most virtual machines.
    """
    zones = [path for path in reader.paths("/sys/class/thermal/thermal_zone*") if _celsius(reader, path) is not None]
    zones = [zone for zone in zones if reader.text(f"{zone}/type").lower() not in MADE_UP]
    if not zones:
        raise AbsentError("no /sys/class/thermal/thermal_zone* that answers")
    kinds = [reader.text(f"{zone}/type").removesuffix("-thermal") or zone.rpartition("/")[2] for zone in zones]
    names = [kind if kinds.count(kind) == 1 else f"{kind}.{zone.rpartition('zone')[2]}" for kind, zone in zip(kinds, zones, strict=True)]

    def sample() -> Sample:
        seen = {f"temperature_c:{name}": _celsius(reader, zone) for name, zone in zip(names, zones, strict=True)}
        return {channel: celsius for channel, celsius in seen.items() if celsius is not None}

    return Poll(sample)


def _celsius(reader: Reader, zone: str) -> float | None:
    value = reader.number(f"{zone}/temp")
    return value / 1e3 if value is not None and value / 1e3 > COLDEST_C else None
