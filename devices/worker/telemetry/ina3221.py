"""Power of a Jetson's rails from its INA3221 monitors: `power_w:RAIL`. Labelled rails only: what another one feeds is not known."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from devices.worker.reader import Reader
from devices.worker.spec import Watch
from devices.worker.telemetry.source import AbsentError, Poll, Sample

_HWMON = "/sys/class/hwmon/hwmon*"
_IIO = "/sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_*"  # L4T 32


def open_source(reader: Reader, watch: Watch) -> Poll:
    """Volts times amperes of every labelled rail.

    Raises:
        AbsentError: no monitor is there.
    """
    rails = _hwmon(reader) | _iio(reader)
    if not rails:
        raise AbsentError(f"no {_HWMON} named ina3221 with a label, no {_IIO}")

    def sample() -> Sample:
        seen = {f"power_w:{rail}": watts() for rail, watts in rails.items()}
        return {channel: watts for channel, watts in seen.items() if watts is not None}

    return Poll(sample)


def _hwmon(reader: Reader) -> dict[str, Callable[[], float | None]]:
    """Rail -> what reads it, from hwmon."""
    chips = [path for path in reader.paths(_HWMON) if reader.text(f"{path}/name") == "ina3221"]
    labels = [label for chip in chips for label in reader.paths(f"{chip}/in[0-9]_label")]
    return _rails(reader, {label: partial(_product, reader, label.removesuffix("_label")) for label in labels})


def _iio(reader: Reader) -> dict[str, Callable[[], float | None]]:
    """Rail -> what reads it, from the industrial I/O driver of older kernels: milliwatts of in_powerN_input, named by rail_name_N."""
    files = {label: label.replace("rail_name_", "in_power") + "_input" for label in reader.paths(_IIO)}
    return _rails(reader, {label: partial(_scaled, reader, power) for label, power in files.items()})


def _rails(reader: Reader, read: dict[str, Callable[[], float | None]]) -> dict[str, Callable[[], float | None]]:
    """Those with a name that answer. NC: not connected."""
    return {reader.text(label): watts for label, watts in read.items() if reader.text(label) not in ("", "NC") and watts() is not None}


def _product(reader: Reader, channel: str) -> float | None:
    """`channel` is the path of a voltage, .../in1: millivolts of in1_input times milliamperes of curr1_input, in watts."""
    folder, _, name = channel.rpartition("/")
    millivolts, milliamperes = reader.number(f"{channel}_input"), reader.number(f"{folder}/curr{name.removeprefix('in')}_input")
    return None if millivolts is None or milliamperes is None else millivolts * milliamperes / 1e6


def _scaled(reader: Reader, file: str) -> float | None:
    milliwatts = reader.number(file)
    return None if milliwatts is None else milliwatts / 1e3
