"""What a device may say of itself and of its samples. One that is damaged, or means harm, can send anything: what passes here is of the
right form everywhere.

Figures can still be wrong; that is for the gates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.host.errors import DeviceError
from devices.host.fields import read_table
from devices.worker.spec import FormatError
from devices.worker.telemetry import PROVIDERS
from devices.worker.telemetry.series import Telemetry
from devices.worker.telemetry.source import KINDS

LARGEST = 1e18  # of a telemetry sample, either way: sums of them stay finite


@dataclass(frozen=True)
class Environment:
    """What `devices.worker.environment.describe_machine` and `Load.describe` say, and the threads of the engine."""

    cpu_model: str | None = None
    isa_flags: tuple[str, ...] = ()
    cpus: int | None = None
    affinity: tuple[int, ...] = ()
    quota_cpus: float | None = None
    machine: str | None = None
    emulator: str | None = None
    kernel: str | None = None
    python: str | None = None
    numpy: str | None = None
    clock_skew_s: float | None = None
    threads: int | None = None
    load_average_before: float | None = None
    load_average_after: float | None = None
    others_share_before: float | None = None
    steal_share: float | None = None
    governor: str | None = None


@dataclass(frozen=True)
class Gpu:
    """See `devices.worker.observed.gpu`."""

    name: str
    driver: str
    memory_bytes: int | None
    sm: str
    clock_mhz: float | None
    highest_clock_mhz: float | None


@dataclass(frozen=True)
class State:
    """The state of a device, see `devices.worker.observed.observe`."""

    recorded_from: str | None = None
    model: str | None = None
    cpu_model: str | None = None
    isa_flags: tuple[str, ...] = ()
    python: str | None = None
    kernel: str | None = None
    l4t: str | None = None
    jetpack: str | None = None
    cuda: str | None = None
    memory_bytes: int | None = None
    power_mode: str | None = None
    mode_limits_hz: dict[str, float] | None = None
    governors: tuple[str, ...] = ()
    clocks_hz: dict[str, Any] | None = None
    clocks_locked: bool | None = None
    gpu: Gpu | None = None


@dataclass(frozen=True)
class Peaks:
    """See `devices.worker.peaks`."""

    operations_per_s: dict[str, float]
    bytes_per_s: float
    cache_bytes: int | None


def check_fields(name: str, value: Any, kind: type[Any]) -> None:
    """Raise `FormatError` unless `value` is an object with the fields of the dataclass `kind`, of their types."""
    _require(isinstance(value, dict), name, value, "an object")
    try:
        read_table(kind, value, name)
    except DeviceError as error:
        raise FormatError(str(error)) from error
    for clock, limits in (value.get("clocks_hz") or {}).items():
        sound = isinstance(limits, list) and len(limits) == 2 and all(type(hertz) in (int, float) for hertz in limits)
        _require(sound, f"{name}.clocks_hz.{clock}", limits, "two frequencies")


def check_peaks(peaks: dict[str, Any]) -> None:
    """Raise `FormatError` unless these are figures that time can be computed from, or nothing."""
    if peaks:
        check_fields("peaks", peaks, Peaks)
        speeds = (*peaks["operations_per_s"].values(), peaks["bytes_per_s"], peaks["cache_bytes"] or 1)
        _require(all(1 <= speed <= LARGEST for speed in speeds), "peaks", peaks, f"figures of 1 to {LARGEST:g}")


def check_telemetry(telemetry: Telemetry) -> None:
    """Raise `FormatError` unless samples are of known sensors, in order and finite."""
    _require(telemetry.idle_ns[0] <= telemetry.idle_ns[1], "telemetry.idle_ns", telemetry.idle_ns, "a beginning and an end")
    _require(telemetry.absent.keys() <= PROVIDERS.keys(), "telemetry.absent", telemetry.absent, "known providers")
    for provider, series in telemetry.series.items():
        where = f"telemetry of '{provider}'"
        _require(provider in PROVIDERS, where, provider, f"one of {', '.join(PROVIDERS)}")
        _require(len(series.time_ns) > 0, where, series.time_ns.shape, "int64 (n,)")
        _check_moments(where, series.time_ns)
        for channel, values in series.values.items():
            _require(channel.partition(":")[0] in KINDS, where, channel, f"KIND:NAME with a kind of {', '.join(KINDS)}")
            _require(not bool((np.abs(values) > LARGEST).any()), f"{where}, {channel}", "a value beyond that", f"{LARGEST:g} at most")


def _check_moments(name: str, moments: NDArray[np.int64]) -> None:
    _require(bool(((moments > -LARGEST) & (moments < LARGEST)).all()), name, "a moment beyond that", f"within {LARGEST:g} ns")
    _require(bool((np.diff(moments) >= 0).all()), name, "moments out of order", "time that goes on")


def _require(sound: bool, name: str, value: Any, expected: str) -> None:
    if not sound:
        shown = repr(value)
        raise FormatError(f"{name} is {shown if len(shown) <= 80 else f'{shown[:80]}…'}; expected {expected}")
