"""What a profile may say: the names that are known, and the numbers, commands and characters that are accepted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from devices.host.errors import DeviceError
from devices.host.transports import EMULATED, TRANSPORTS
from devices.host.versions import conditions
from devices.worker.engines import ENGINES
from devices.worker.environment import ISA_FLAGS
from devices.worker.plain import printable
from devices.worker.telemetry import PROVIDERS

if TYPE_CHECKING:
    from devices.host.profile import DeviceProfile, Emulation

KINDS = ("cpu", "cuda", "jetson")
MACHINES = ("x86_64", "aarch64")
CAPABILITIES = ("fp16", "bf16", "fp8", "fp4", "int8", "sparse-2:4", "dla")
SOFTWARE = ("l4t", "jetpack", "python", "cuda", "driver", "onnxruntime", "tensorrt")
PRECISIONS = ("fp32", "tf32", "tf32-sparse", "fp16", "fp16-sparse", "fp8", "fp8-sparse", "fp4-sparse", "int8", "int8-sparse")
UNITS = ("cpu", "gpu", "dla", "module", "memory")
LARGEST = 1e15  # of a number in a profile: beyond all that is measured
_QEMU_CPU = re.compile(r"[A-Za-z0-9][\w.,=+-]*", re.ASCII)
_PINNED = re.compile(r"[\w.-]+==[\w.]+")
_ALIAS = re.compile(r"[A-Za-z0-9][\w.-]*")


def check_profile(profile: DeviceProfile) -> None:
    """Refuse what cannot be meant.

    Raises:
        DeviceError: names the field, what came and what was expected.
    """
    _among("kind", [profile.kind], KINDS)
    _among("transport", [profile.transport], TRANSPORTS)
    _among("runtimes", profile.runtimes, ENGINES)
    _among("capabilities", profile.capabilities, CAPABILITIES)
    _among("cpu.isa", (*profile.cpu.isa, *profile.cpu.without), ISA_FLAGS)
    _among("isa_flags", profile.isa_flags, ISA_FLAGS)
    _among("telemetry.providers", profile.telemetry.providers, PROVIDERS)
    _among("software", profile.software, SOFTWARE)
    for wanted in profile.software.values():
        conditions(wanted)
    _check_numbers(profile)
    _check_command(profile.python)
    if profile.host is not None and not _ALIAS.fullmatch(profile.host):
        raise DeviceError(f"host is {profile.host!r}; expected an alias of your ssh configuration (~/.ssh/config), without user or address")
    if profile.emulation is None and profile.transport == EMULATED:
        raise DeviceError("there is no way to reach it: expected another transport, or a table [emulation]")
    _check_power(profile)
    if profile.emulation is not None:
        _check_emulation(profile.emulation)


def plain(value: Any, place: str = "") -> Any:
    """A profile's table with its texts on one line each.

    Raises:
        DeviceError: a character that a terminal would not show but obey, or a number that is not finite or beyond all that is measured.
    """
    if isinstance(value, dict):
        return {plain(key, place): plain(inner, f"{place}.{key}" if place else key) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner, place) for inner in value]
    if isinstance(value, str):
        text = value.replace("\r\n", " ").replace("\n", " ").replace("\t", " ")
        if not text.isprintable():
            raise DeviceError(f"{printable(place)} has the character {next(c for c in text if not c.isprintable())!r}; expected plain text")
        return text
    if isinstance(value, int | float) and not abs(value) <= LARGEST:  # nor is NaN
        raise DeviceError(f"{printable(place)} is {value:.3g}; expected a number up to {LARGEST:.0e}")
    return value


def _check_command(python: str) -> None:
    try:
        words = shlex.split(python)
    except ValueError as error:
        raise DeviceError(f"python is {python!r}: {str(error).lower()}; expected a command, such as python3") from error
    if not words or not words[0] or words[0].startswith("-"):
        raise DeviceError(f"python is {python!r}; expected a command, such as python3")


def _check_numbers(profile: DeviceProfile) -> None:
    at_least = {
        "telemetry.period_ms": (profile.telemetry.period_ms, 10),
        "telemetry.idle_s": (profile.telemetry.idle_s, 0),
        "limits.cooldown_s": (profile.limits.cooldown_s, 0),
        "identity.dla_cores": (profile.identity.dla_cores, 0),
        **{f"power.modes.{name}": (number, 0) for name, number in profile.power.modes.items()},
        "cpu.threads": (1 if profile.cpu.threads is None else profile.cpu.threads, 1),
    }
    for name, (value, least) in at_least.items():
        if value < least:
            raise DeviceError(f"{name} is {value}; expected {least} or more")
    at_most = {
        "telemetry.period_ms": (profile.telemetry.period_ms, 60_000),
        "telemetry.idle_s": (profile.telemetry.idle_s, 3600),
        "limits.cooldown_s": (profile.limits.cooldown_s, 86_400),
    }
    for name, (value, most) in at_most.items():
        if value > most:
            raise DeviceError(f"{name} is {value:g}; expected {most} or less")
    above_zero = {
        "identity.memory_gib": profile.identity.memory_gib,
        "limits.rise_c": profile.limits.rise_c,
        "limits.start_temperature_c": profile.limits.start_temperature_c,
    }
    for name, number in above_zero.items():
        if number is not None and number <= 0:
            raise DeviceError(f"{name} is {number:g}; expected more than 0")
    affinity, threads = profile.cpu.affinity, profile.cpu.threads or 1
    if len(set(affinity)) < len(affinity) or any(cpu < 0 for cpu in affinity):
        raise DeviceError(f"cpu.affinity is {list(affinity)}; expected numbers of CPUs, 0 or more, each once")
    if affinity and threads > len(affinity):
        raise DeviceError(f"cpu.threads is {threads}; expected no more than the CPUs of cpu.affinity, {len(affinity)}")
    for name in ("others_share", "steal_share", "frequency_drop"):
        if not 0 < getattr(profile.limits, name) <= 1:
            raise DeviceError(f"limits.{name} is {getattr(profile.limits, name)}; expected a share above 0, at most 1")


def _check_power(profile: DeviceProfile) -> None:
    """Every mode that is spoken of is one of the device's, and every peak says what it is and where it comes from."""
    modes = profile.power.modes
    _among("power.required", [profile.power.required] if profile.power.required else [], modes)
    if profile.power.required and not (profile.power.query and profile.power.select):
        raise DeviceError("power.required is set; expected power.query and power.select, the commands that show and select a mode")
    if profile.power.required and not any("nvpmodel" in word for word in profile.power.query):
        raise DeviceError(
            "power.required is set, and power.query is not nvpmodel, whose answer alone is understood: no run could meet it. Leave it out; "
            "where a fixed clock is meant, set clocks.locked = true"
        )
    for peak in profile.peaks:
        _among("peaks.unit", [peak.unit], UNITS)
        _among("peaks.tops", peak.tops, PRECISIONS)
        _among("peaks.power_mode", [peak.power_mode] if peak.power_mode else [], modes)
        if not peak.source.strip() or not (peak.tops or peak.gb_per_s):
            raise DeviceError(f"a peak of unit '{peak.unit}' lacks its source or its figure; expected source, and tops or gb_per_s")
        if any(value <= 0 for value in (*peak.tops.values(), peak.gb_per_s or 1.0, 1.0 if peak.cache_mib is None else peak.cache_mib)):
            raise DeviceError(f"a peak of unit '{peak.unit}' has a figure that is not above 0")


def _check_emulation(emulation: Emulation) -> None:
    _among("emulation.machine", [emulation.machine], MACHINES)
    if not _QEMU_CPU.fullmatch(emulation.cpu):
        raise DeviceError(f"emulation.cpu is {emulation.cpu!r}; expected a CPU of QEMU, such as cortex-a76")
    if wrong := [package for package in emulation.packages if not _PINNED.fullmatch(package)]:
        raise DeviceError(f"emulation.packages has {', '.join(wrong)}; expected NAME==VERSION")


def _among(name: str, given: Collection[str], choices: Collection[str]) -> None:
    if unknown := sorted(set(given) - set(choices)):
        raise DeviceError(f"{name} has {', '.join(unknown)}; choices: {', '.join(choices)}")
