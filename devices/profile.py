"""Device profiles: one TOML file each in `devices/profiles/`. Read on the workstation, never by the worker."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from devices.engines import ENGINES
from devices.errors import DeviceError
from devices.transports import TRANSPORTS

FOLDER = Path(__file__).parent / "profiles"


@dataclass(frozen=True)
class DeviceProfile:
    """What is declared of a device before it is reached.

    Attributes:
        name: of the profile, and of its file.
        kind: what computes: `cpu`.
        description: one sentence.
        emulated: another CPU's instructions are emulated here; logits count, latency does not.
        simulated_clock: latency and memory are made up.
        transport: a key of `devices.transports.TRANSPORTS`.
        runtimes: keys of `devices.engines.ENGINES` that it has.
        provenance: where the declared facts come from.
        verified_on_hardware: whether anyone ran the harness on the real thing.
    """

    name: str
    kind: str
    description: str
    emulated: bool
    simulated_clock: bool
    transport: str
    runtimes: tuple[str, ...]
    provenance: str
    verified_on_hardware: bool


def device_names() -> list[str]:
    """Every device that `load_profile` knows."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_profile(name: str) -> DeviceProfile:
    """The profile of a known device.

    Raises:
        DeviceError: unknown name (the message has the choices), or a profile that is not as it must be.
    """
    if name not in device_names():
        raise DeviceError(f"unknown device '{name}'. Choices: {', '.join(device_names())}.")
    path = FOLDER / f"{name}.toml"
    try:
        return read_profile(tomllib.loads(path.read_text(encoding="utf-8")))
    except (DeviceError, ValueError, OSError) as error:
        raise DeviceError(f"{path}: {error}") from error


def read_profile(raw: dict[str, Any]) -> DeviceProfile:
    """Check a profile's fields, by hand: which are there, their types, and the names that must be known.

    Raises:
        DeviceError: names the field, what came and what was expected.
    """
    expected = {field.name for field in fields(DeviceProfile)}
    if wrong := expected ^ raw.keys():
        raise DeviceError(
            f"fields missing: {sorted(expected - raw.keys())}; fields unknown: {sorted(raw.keys() - expected)} ({len(wrong)} in all)"
        )
    for name, kind in get_type_hints(DeviceProfile).items():
        value = raw[name]
        if get_args(kind) and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise DeviceError(f"{name} is {value!r}; expected a list of strings")
        if not get_args(kind) and type(value) is not kind:
            raise DeviceError(f"{name} is {value!r}; expected {kind.__name__}")
    profile = DeviceProfile(**{**raw, "runtimes": tuple(raw["runtimes"])})
    for field, value, choices in (("transport", [profile.transport], TRANSPORTS), ("runtimes", profile.runtimes, ENGINES)):
        if unknown := sorted(set(value) - set(choices)):
            raise DeviceError(f"{field} has {', '.join(unknown)}; choices: {', '.join(choices)}")
    return profile
