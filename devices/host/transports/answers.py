"""What the agent on a device may answer, one dataclass each, and asking it. Whatever else comes is an error of the device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from devices.host.errors import DeviceError
from devices.host.fields import read_table
from devices.worker.plain import printable
from devices.worker.wire import Wire

LIMIT_S = 1800.0  # for one answer: a slow disk reads every file of a job again meanwhile, and says that it lives


class DamagedError(DeviceError):
    """Bytes changed on the way."""


@dataclass(frozen=True)
class Done:
    """`receive` and `remove` have nothing to say."""


@dataclass(frozen=True)
class Hello:
    """Of `hello`: what the machine says of itself."""

    machine: str
    python: str
    cpus: int
    time: float
    absent: tuple[str, ...]
    emulator: str | None
    allowed: tuple[int, ...]
    fast: tuple[int, ...]
    gpu_barred: str


@dataclass(frozen=True)
class Observed:
    """Of `observe`: the state as `devices.worker.observed` has it, and the versions of packages."""

    state: dict[str, Any]
    versions: dict[str, str]


@dataclass(frozen=True)
class Lock:
    """Of `lock`: who has the device, or, once it is held, who left it behind."""

    waiting: str | None = None
    left_over: str | None = None


@dataclass(frozen=True)
class Missing:
    """Of `missing`: hash of a file -> bytes of it that are there; and what was thrown away because the store had reached its limit."""

    missing: dict[str, int]
    trimmed: int
    trimmed_bytes: int


@dataclass(frozen=True)
class Cleaned:
    """Of `clean`: how many files of the store, folders of runs and engines were thrown away."""

    removed: dict[str, int]
    freed_bytes: int


@dataclass(frozen=True)
class Laid:
    """Of `lay`: where the run's folder lies there, and where a login begins."""

    folder: str
    home: str


@dataclass(frozen=True)
class _Failure:
    """Of any request that cannot be met."""

    error: str
    damaged: bool = field(default=False)


Answer = TypeVar("Answer")


def ask(wire: Wire, kind: type[Answer], op: str, limit_s: float | None = LIMIT_S, **request: Any) -> Answer:
    """Ask the agent for `op`, and wait for its answer; see `follow_up`."""
    wire.send({"op": op, **request})
    return follow_up(wire, kind, limit_s)


def follow_up(wire: Wire, kind: type[Answer], limit_s: float | None = LIMIT_S) -> Answer:
    """The next answer, of the form of `kind`.

    Raises:
        ClosedError: the connection is lost.
        NonsenseError: what comes is no message, or nothing but beats comes for `limit_s`.
        DamagedError: bytes changed on the way.
        DeviceError: the request cannot be met, or the answer is of another form.
    """
    answer = wire.receive(limit_s)
    if "error" in answer:
        failure = _read(_Failure, answer)
        raise (DamagedError if failure.damaged else DeviceError)(f"on the device: {printable(failure.error, 1000)}")
    return _read(kind, answer)


def _read(kind: type[Answer], answer: dict[str, Any]) -> Answer:
    try:
        return read_table(kind, answer)
    except DeviceError as error:
        raise DeviceError(f"the device gave an answer that cannot be used: {printable(str(error))}") from error
