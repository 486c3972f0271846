"""Throttling as the hardware counts it: `events:FILE` where it counts, `throttled:firmware` where a Raspberry Pi tells its state."""

from __future__ import annotations

from devices.worker.reader import Reader
from devices.worker.spec import Watch
from devices.worker.telemetry.source import AbsentError, Poll, Sample

STATE = "get_throttled"  # of the Raspberry Pi's firmware, hexadecimal
# Bits 0 to 3: under-voltage, frequency capped, throttled, soft temperature limit (Raspberry Pi, documentation of vcgencmd). Bits 16 to 19
# remember them since boot.
NOW = 0xF


def open_source(reader: Reader, watch: Watch) -> Poll:
    """The files that match the profile's patterns. Counters of the same file name are told apart by their folder.

    Raises:
        AbsentError: none of them is there.
    """
    files = [path for pattern in watch.throttle_counters for path in reader.paths(pattern)]
    there = {path: _name(path) for path in files if _number(reader, path) is not None}
    if not there:
        wanted = ", ".join(watch.throttle_counters) or "any counter: the profile declares none"
        raise AbsentError(f"no {wanted}")

    def sample() -> Sample:
        seen = {name: _number(reader, path) for path, name in there.items()}
        return {name: value for name, value in seen.items() if value is not None}

    return Poll(sample)


def _number(reader: Reader, path: str) -> float | None:
    if not path.endswith(f"/{STATE}"):
        return reader.number(path)
    try:
        return float(int(reader.text(path), 16) & NOW)
    except ValueError:
        return None


def _name(path: str) -> str:
    """The channel of a file: `events:oc1`, `events:cpu0/core`, `throttled:firmware`."""
    if path.endswith(f"/{STATE}"):
        return "throttled:firmware"
    *_, above, folder, file = path.split("/")
    short = file.removesuffix("_event_cnt").removesuffix("_throttle_count")
    return f"events:{above}/{short}" if folder == "thermal_throttle" else f"events:{short}"
