"""Energy of the CPU packages, as Intel's and AMD's processors count it (RAPL, through powercap): `energy_j:package-N`."""

from __future__ import annotations

from devices.worker.reader import Reader
from devices.worker.spec import Watch
from devices.worker.telemetry.source import AbsentError, Poll, Sample

_ZONES = "/sys/class/powercap/intel-rapl:[0-9]*"


def open_source(reader: Reader, watch: Watch) -> Poll:
    """Every package; a counter that begins again at zero is followed across.

    Raises:
        AbsentError: there is no counter, or it may not be read.
    """
    zones = [zone for zone in reader.paths(_ZONES) if reader.text(f"{zone}/name").startswith("package")]
    if not zones:
        raise AbsentError(f"no {_ZONES} of a package")
    if any(reader.number(f"{zone}/energy_uj") is None for zone in zones):
        raise AbsentError("the energy counters are there but may not be read. Allow it: sudo chmod a+r /sys/class/powercap/*/energy_uj")
    counters = [_Counter(reader, zone) for zone in zones]
    return Poll(lambda: {name: joules for counter in counters for name, joules in counter.sample().items()})


class _Counter:
    """One package's counter in microjoules, which starts again at zero after `max_energy_range_uj`."""

    def __init__(self, reader: Reader, zone: str) -> None:
        self._reader, self._file = reader, f"{zone}/energy_uj"
        self._channel = f"energy_j:{reader.text(f'{zone}/name')}"
        self._range = reader.number(f"{zone}/max_energy_range_uj") or 0.0
        self._last = self._turns = 0.0

    def sample(self) -> Sample:
        now = self._reader.number(self._file)
        if now is None:
            return {}
        if now < self._last:
            self._turns += 1
        self._last = now
        return {self._channel: (now + self._turns * self._range) / 1e6}
