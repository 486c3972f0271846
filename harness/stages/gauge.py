"""The device's temperature, clock and power, for whoever watches a run's one live line."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from devices.host.session import EngineError, EngineSession

EVERY_S = 5.0
MOST_SHARE = 0.02  # of the run's time that the asking may take
MEMORY_CLOCKS = ("emc", "gpu-memory")


class Gauge:
    """What the device's sensors last said.

    Args:
        sessions: with engines, by name; grows and shrinks meanwhile. Whichever is open first is asked: all are on one device.
        there: the names of those that are on the device itself, and are the harness's own worker.
        emulated: no sensor is the device's.
    """

    def __init__(self, sessions: Mapping[str, EngineSession], there: Collection[str], *, emulated: bool) -> None:
        self._sessions, self._there, self._emulated = sessions, there, emulated
        self._said = "emulated" if emulated else ""
        self._next = 0.0

    def __str__(self) -> str:
        return self._said

    def look(self) -> None:
        """Ask, unless it was asked a moment ago. To be called only while no engine of the device is timed."""
        begin = time.monotonic()
        if self._emulated or begin < self._next:
            return
        session = next((self._sessions[name] for name in self._there if name in self._sessions and self._sessions[name].is_open), None)
        if session is None:
            return
        try:
            self._said = in_words(session.now())
        except EngineError:  # it is the answer to whatever it is asked next, and counts there
            self._said = ""
        spent = time.monotonic() - begin
        self._next = begin + max(EVERY_S, spent / MOST_SHARE)


def in_words(sample: Mapping[str, float]) -> str:
    """The hottest sensor, the clock of what computes (the GPU's where there is one, else the fastest CPU's), and the power
    of a device with one rail: of several, some are parts of others.
    """
    kinds: dict[str, dict[str, float]] = {}
    for channel, value in sample.items():
        kind, _, name = channel.partition(":")
        if name not in MEMORY_CLOCKS:
            kinds.setdefault(kind, {})[name] = value
    parts = []
    if degrees := kinds.get("temperature_c"):
        parts.append(f"{max(degrees.values()):.0f} °C")
    if clocks := kinds.get("frequency_hz"):
        hertz = clocks.get("gpu", max(clocks.values()))
        parts.append(f"{hertz / 1e9:.2f} GHz" if hertz >= 1e9 else f"{hertz / 1e6:.0f} MHz")
    if len(watts := kinds.get("power_w", {})) == 1:
        parts.append(f"{max(watts.values()):.1f} W")
    return " ".join(parts)
