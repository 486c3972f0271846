"""Device profiles: one TOML file each, shipped or the user's own. Read on the workstation, never by the worker."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from devices.engines import ENGINES
from devices.errors import DeviceError
from devices.transports import EMULATED, TRANSPORTS

FOLDER = Path(__file__).parent / "profiles"
MACHINES = ("x86_64", "aarch64")

_PINNED = re.compile(r"[\w.-]+==[\w.]+")


@dataclass(frozen=True)
class Emulation:
    """How QEMU's user mode stands in for the device's CPU.

    Attributes:
        machine: the instruction set, one of `MACHINES` (the names of `uname -m`).
        cpu: QEMU's name of the CPU model (`qemu-aarch64-static -cpu help`).
        packages: what is installed for the emulated Python, each as NAME==VERSION, in a sysroot that `devices.sysroot` builds.
            Empty where the workstation's own Python and packages are emulated.
    """

    machine: str
    cpu: str
    packages: tuple[str, ...]


@dataclass(frozen=True)
class DeviceProfile:
    """What is declared of a device before it is reached.

    Attributes:
        name: of the profile, and of its file.
        kind: what computes: `cpu`.
        description: one sentence.
        simulated_clock: latency and memory are made up.
        runtimes: keys of `devices.engines.ENGINES` that it has.
        provenance: where the declared facts come from.
        verified_on_hardware: whether anyone ran the harness on the real thing.
        transport: how to reach it, a key of `devices.transports.TRANSPORTS`; None where nothing reaches the hardware yet.
        emulation: how its CPU is emulated; None where it is not.
    """

    name: str
    kind: str
    description: str
    simulated_clock: bool
    runtimes: tuple[str, ...]
    provenance: str
    verified_on_hardware: bool
    transport: str | None = None
    emulation: Emulation | None = None

    @property
    def emulated(self) -> bool:
        """Whether its instructions are emulated: logits count, latency and memory do not."""
        return self.transport == EMULATED


def device_names() -> list[str]:
    """Every device that `load_profile` knows."""
    return sorted(_files())


def user_folder() -> Path:
    """Where a user's own profiles lie: `$XDG_CONFIG_HOME/edge-harness/devices`, by default `~/.config/edge-harness/devices`."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "edge-harness" / "devices"


def _files() -> dict[str, Path]:
    """The file of every device; the user's own comes before the shipped one of the same name."""
    return {path.stem: path for folder in (FOLDER, user_folder()) for path in folder.glob("*.toml")}


def load_profile(name: str, *, emulate: bool = False) -> DeviceProfile:
    """The profile of a known device.

    Args:
        name: of the device.
        emulate: its CPU is emulated instead of reaching the hardware.

    Raises:
        DeviceError: unknown name (the message has the choices), a profile that is not as it must be, or a CPU that cannot be emulated.
    """
    path = _files().get(name)
    if path is None:
        raise DeviceError(f"unknown device '{name}'. Choices: {', '.join(device_names())}.")
    try:
        profile = read_profile(tomllib.loads(path.read_text(encoding="utf-8")))
    except (DeviceError, ValueError, OSError) as error:
        raise DeviceError(f"{path}: {error}") from error
    if profile.name != name:
        raise DeviceError(f"{path}: name is '{profile.name}'; expected the file's own, '{name}'")
    if not emulate:
        return profile
    if profile.emulation is None:
        can = [other for other in device_names() if load_profile(other).emulation]
        raise DeviceError(f"{name} cannot be emulated. Leave --emulate out, or choose one that can: {', '.join(can)}.")
    return replace(profile, transport=EMULATED)


def read_profile(raw: dict[str, Any]) -> DeviceProfile:
    """Check a profile's fields, by hand: which are there, their types, and the names that must be known.

    Raises:
        DeviceError: names the field, what came and what was expected.
    """
    given = _typed(DeviceProfile, raw)
    if "emulation" in given:
        given["emulation"] = _read_emulation(given["emulation"])
    profile = DeviceProfile(**given)
    _among("transport", [profile.transport] if profile.transport else [], TRANSPORTS)
    _among("runtimes", profile.runtimes, ENGINES)
    if profile.emulation is None and (profile.emulated or profile.transport is None):
        raise DeviceError("there is no way to reach it: expected a transport, or a table [emulation]")
    return profile


def _read_emulation(raw: dict[str, Any]) -> Emulation:
    emulation = Emulation(**_typed(Emulation, raw))
    _among("emulation.machine", [emulation.machine], MACHINES)
    if wrong := [package for package in emulation.packages if not _PINNED.fullmatch(package)]:
        raise DeviceError(f"emulation.packages has {', '.join(wrong)}; expected NAME==VERSION")
    return emulation


def _typed(kind: type, raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of dataclass `kind` in a TOML table, lists as tuples; every one without a default must be there, and no other."""
    needed = {field.name for field in fields(kind) if field.default is MISSING}
    hints = get_type_hints(kind)
    missing, unknown = sorted(needed - raw.keys()), sorted(raw.keys() - hints.keys())
    if missing or unknown:
        raise DeviceError(f"fields missing: {missing}; fields unknown: {unknown} ({len(missing) + len(unknown)} in all)")
    return {name: _value(name, value, hints[name]) for name, value in raw.items()}


def _value(name: str, value: Any, hint: Any) -> Any:
    if get_origin(hint) is tuple:
        if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise DeviceError(f"{name} is {value!r}; expected a list of strings")
        return tuple(value)
    wanted = next(part for part in get_args(hint) or (hint,) if part is not NoneType)
    wanted = dict if wanted is Emulation else wanted
    if type(value) is not wanted:
        raise DeviceError(f"{name} is {value!r}; expected {'a table' if wanted is dict else wanted.__name__}")
    return value


def _among(field: str, given: Any, choices: Any) -> None:
    if unknown := sorted(set(given) - set(choices)):
        raise DeviceError(f"{field} has {', '.join(unknown)}; choices: {', '.join(choices)}")
