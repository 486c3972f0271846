"""Device profiles: one TOML file each, shipped or the user's own. Read on the workstation, never by the worker.

What a profile leaves out is not declared: nothing is compared with it. It holds no credentials, no user and no address.
"""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from devices.host.errors import DeviceError
from devices.host.fields import read_table
from devices.host.transports import EMULATED, SSH, TRANSPORTS
from devices.host.versions import conditions
from devices.worker.engines import ENGINES
from devices.worker.environment import ISA_FLAGS
from devices.worker.plain import printable
from devices.worker.spec import Watch
from devices.worker.telemetry import PROVIDERS

FOLDER = Path(__file__).parent / "profiles"
KINDS = ("cpu", "cuda", "jetson")
MACHINES = ("x86_64", "aarch64")
CAPABILITIES = ("fp16", "bf16", "fp8", "fp4", "int8", "sparse-2:4", "dla")
SOFTWARE = ("l4t", "jetpack", "python", "cuda", "driver", "onnxruntime", "tensorrt")
PRECISIONS = ("fp32", "tf32", "tf32-sparse", "fp16", "fp16-sparse", "fp8", "fp8-sparse", "fp4-sparse", "int8", "int8-sparse")
UNITS = ("cpu", "gpu", "dla", "module", "memory")
FLAVOURS = ("onnx-fp32", "ort-int8")  # of a CPU

LARGEST = 1e15  # of a number in a profile: beyond all that is measured
_QEMU_CPU = re.compile(r"[A-Za-z0-9][\w.,=+-]*", re.ASCII)
_PINNED = re.compile(r"[\w.-]+==[\w.]+")
_ALIAS = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Emulation:
    """How QEMU's user mode stands in for the device's CPU.

    Attributes:
        machine: the instruction set, one of `MACHINES` (the names of `uname -m`).
        cpu: QEMU's name of the CPU model (`qemu-aarch64-static -cpu help`).
        packages: what is installed for the emulated Python, each as NAME==VERSION, in a sysroot that `devices.host.sysroot` builds.
            Empty where the workstation's own Python and packages are emulated.
    """

    machine: str
    cpu: str
    packages: tuple[str, ...]


@dataclass(frozen=True)
class Identity:
    """What the hardware is. `sm`: CUDA compute capability, e.g. "8.7". `memory_gib`: of the GPU, or of the module where it is shared."""

    module: str | None = None
    soc: str | None = None
    gpu: str | None = None
    sm: str | None = None
    dla_cores: int = 0
    memory_gib: float | None = None
    shared_memory: bool = False


@dataclass(frozen=True)
class Cpu:
    """The CPU that runs the job. `isa`: extensions it must have; `without`: those it must not have (names of `environment.ISA_FLAGS`).

    `threads` is the runtime's default there; `affinity` are the CPUs that the worker is bound to, all where it is empty.
    """

    model: str | None = None
    isa: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    threads: int | None = None
    affinity: tuple[int, ...] = ()


@dataclass(frozen=True)
class Power:
    """Power modes. `modes`: name as the query tells it -> number; `select` has `{id}` where the number goes."""

    modes: dict[str, int] = field(default_factory=dict)
    required: str | None = None
    query: tuple[str, ...] = ()
    select: tuple[str, ...] = ()

    def remedy(self) -> str:
        """The command that selects the required mode."""
        return " ".join(self.select).replace("{id}", str(self.modes.get(self.required or "", "?")))


@dataclass(frozen=True)
class Clocks:
    """Clocks. `locked`: a measurement counts only while they are. `query`, `lock` and `restore` are commands, word by word."""

    locked: bool = False
    query: tuple[str, ...] = ()
    lock: tuple[str, ...] = ()
    restore: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sensors:
    """What is sampled beside the timing.

    Attributes:
        providers: keys of `devices.worker.telemetry.PROVIDERS`; one that finds nothing on the device is said to be absent.
        rails: power sensors that together are the energy of an inference; empty: the CPU packages (rapl), else the GPU (nvidia-smi).
        throttle_counters: glob patterns of files that count throttling events since boot.
        period_ms: between samples.
        idle_s: watched before anything is loaded: power and load at rest.
    """

    providers: tuple[str, ...] = ("load", "cpufreq", "thermal", "throttle", "rapl")
    rails: tuple[str, ...] = ()
    throttle_counters: tuple[str, ...] = ()
    period_ms: int = 100
    idle_s: float = 0.5


@dataclass(frozen=True)
class Limits:
    """When a measurement counts. Not facts of the hardware: choices, to be overridden where they do not fit.

    Attributes:
        start_temperature_c: no sensor is hotter when timing begins; the worker waits for it up to `cooldown_s`.
        rise_c: no sensor grows hotter by more while one batch size is timed.
        others_share, steal_share: of the time of the CPUs that the job may use while one batch size is timed, taken by other programs
            and by the hypervisor.
        frequency_drop: the clock may fall by this share from the first quarter of a measurement to its last.
    """

    start_temperature_c: float | None = None
    cooldown_s: float = 0.0
    rise_c: float | None = None
    others_share: float = 0.25
    steal_share: float = 0.05
    frequency_drop: float = 0.10


@dataclass(frozen=True)
class Peak:
    """A vendor's peak, for the roofline.

    Attributes:
        unit: what has it, one of `UNITS`. `module`: every unit together.
        source: document and address, or the arithmetic from documented figures.
        power_mode: that it holds in; None: any.
        tops: precision -> 10^12 operations per second, a multiply-accumulate being two.
        gb_per_s: memory bandwidth, 10^9 bytes per second.
        cache_mib: of `memory`: all the caches between it and the unit that computes, MiB; None: not known, and memory sets no floor.
    """

    unit: str
    source: str
    power_mode: str | None = None
    tops: dict[str, float] = field(default_factory=dict)
    gb_per_s: float | None = None
    cache_mib: float | None = None


@dataclass(frozen=True)
class DeviceProfile:
    """What is declared of a device before it is reached.

    Attributes:
        name: of the profile, and of its file.
        kind: what computes, one of `KINDS`; `jetson` is a GPU that shares the CPU's memory.
        description: one sentence.
        synthetic_clock: latency and memory are made up.
        runtimes: keys of `devices.worker.engines.ENGINES` that it has.
        flavours: what is measured there where nobody says otherwise.
        provenance: where the declared facts come from.
        verified_on_hardware: whether anyone ran the harness on the real thing.
        aliases: other names for it.
        transport: how to reach it, a key of `devices.host.transports.TRANSPORTS`.
        host: alias in the user's ssh configuration, where user, address and key are; None: the device's name.
        python: the command that starts Python there, split into words as a shell does; for `ssh` only.
        emulated_host: the machine at the other end of `ssh` is itself an emulator.
        machine: instruction set, as `uname -m` says; None: not known before it is reached.
        isa_flags: extensions of its CPU as they were seen (names of `environment.ISA_FLAGS`); none before it is reached.
        cpus: that a process may use there; None: not known before it is reached.
        software: names of `SOFTWARE` -> range of versions, e.g. ">=36.2,<37".
        capabilities: those of `CAPABILITIES` that its units have in hardware.
        emulation: how its CPU is emulated; None where it is not.
    """

    name: str
    kind: str
    description: str
    synthetic_clock: bool
    runtimes: tuple[str, ...]
    provenance: str
    verified_on_hardware: bool
    aliases: tuple[str, ...] = ()
    transport: str = SSH
    host: str | None = None
    python: str = "python3"
    emulated_host: bool = False
    machine: str | None = None
    isa_flags: tuple[str, ...] = ()
    cpus: int | None = None
    software: dict[str, str] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    flavours: tuple[str, ...] = FLAVOURS
    identity: Identity = Identity()
    cpu: Cpu = Cpu()
    power: Power = Power()
    clocks: Clocks = Clocks()
    telemetry: Sensors = Sensors()
    limits: Limits = Limits()
    peaks: tuple[Peak, ...] = ()
    emulation: Emulation | None = None

    @property
    def emulated(self) -> bool:
        """Whether its instructions are emulated: logits count, latency and memory do not."""
        return self.transport == EMULATED or self.emulated_host

    @property
    def watch(self) -> Watch:
        """What the worker observes there beside a job."""
        return Watch(
            providers=self.telemetry.providers,
            period_ms=self.telemetry.period_ms,
            idle_s=self.telemetry.idle_s,
            throttle_counters=self.telemetry.throttle_counters,
            power_query=self.power.query,
            clocks_query=self.clocks.query,
            affinity=self.cpu.affinity,
            start_temperature_c=self.limits.start_temperature_c,
            cooldown_s=self.limits.cooldown_s,
        )


def device_names() -> list[str]:
    """Every device that `load_profile` knows, without aliases."""
    return sorted(_files())


def device_aliases() -> dict[str, str]:
    """Every alias and the device it stands for. A broken file has none."""
    found: dict[str, str] = {}
    for name, path in _files().items():
        try:
            aliases = _raw(path).get("aliases", [])
        except (DeviceError, ValueError, OSError):
            continue
        found |= {alias: name for alias in aliases if isinstance(alias, str)}
    return {alias: name for alias, name in found.items() if alias not in _files()}


def user_folder() -> Path:
    """Where a user's own profiles lie: `$XDG_CONFIG_HOME/edge-harness/devices`, by default `~/.config/edge-harness/devices`.

    A user without a home folder, as containers have them, has none: then nothing lies there.
    """
    try:
        return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "edge-harness" / "devices"
    except RuntimeError:
        return Path(os.devnull) / "edge-harness"


def _files() -> dict[str, Path]:
    """The file of every device; the user's own comes before the shipped one of the same name."""
    return {path.stem: path for folder in (FOLDER, user_folder()) for path in folder.glob("*.toml")}


def load_profile(name: str, *, emulate: bool = False) -> DeviceProfile:
    """The profile of a known device.

    Args:
        name: of the device, or an alias.
        emulate: its CPU is emulated instead of reaching the hardware.

    Raises:
        DeviceError: unknown name (the message has the choices), a profile that is not as it must be, or a CPU that cannot be emulated.
    """
    name = name if name in _files() else device_aliases().get(name, name)
    path = _files().get(name)
    if path is None:
        raise DeviceError(f"unknown device '{name}'. Choices: {', '.join(device_names())}.")
    try:
        profile = read_profile(_raw(path))
    except (DeviceError, ValueError, OSError) as error:
        raise DeviceError(f"{path}: {error}") from error
    if profile.name != name:
        raise DeviceError(f"{path}: name is '{profile.name}'; expected the file's own, '{name}'")
    return _emulated(profile) if emulate else profile


def _emulated(profile: DeviceProfile) -> DeviceProfile:
    """The same device with nothing but its CPU, and that emulated."""
    if profile.emulation is None:
        can = [other for other in device_names() if _can_be_emulated(other)]
        raise DeviceError(f"{profile.name} cannot be emulated. Leave --emulate out, or choose one that can: {', '.join(can)}.")
    installed = {package.partition("==")[0] for package in profile.emulation.packages}
    runtimes = tuple(name for name in profile.runtimes if name in installed) if installed else profile.runtimes
    bare: dict[str, Any] = {
        "identity": Identity(profile.identity.module, profile.identity.soc),
        "software": {},
        "capabilities": (),
        "flavours": FLAVOURS,
        "power": Power(),
        "clocks": Clocks(),
        "telemetry": Sensors(()),
        "peaks": (),
    }
    return replace(profile, kind="cpu", transport=EMULATED, runtimes=runtimes, cpu=replace(profile.cpu, threads=None, affinity=()), **bare)


def _can_be_emulated(name: str) -> bool:
    """False for a broken profile too."""
    try:
        return load_profile(name).emulation is not None
    except DeviceError:
        return False


def _raw(path: Path, below: tuple[str, ...] = ()) -> dict[str, Any]:
    """The TOML of a profile, with what it inherits: `extends` names another one, whose tables are overridden key by key.

    Raises:
        DeviceError: it extends an unknown profile, or itself in the end, or nests too deep.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise DeviceError("its tables and lists nest too deep") from None
    base = raw.pop("extends", None)
    if base is None:
        return raw
    shipped, seen = FOLDER / f"{base}.toml", (*below, str(path))
    file = shipped if base == path.stem else _files().get(str(base), shipped)  # a user's host.toml may extend the shipped one
    if not file.is_file() or str(file) in seen:
        raise DeviceError(f"extends is {base!r}; expected another device: {', '.join(device_names())}")
    inherited = {key: value for key, value in _raw(file, seen).items() if key not in ("aliases", "verified_on_hardware")}
    merged = {
        key: {**inherited[key], **value} if isinstance(value, dict) and isinstance(inherited.get(key), dict) else value
        for key, value in raw.items()
    }
    return {"verified_on_hardware": False, **inherited, **merged}


def read_profile(raw: dict[str, Any]) -> DeviceProfile:
    """Check a profile's fields: which are there, their types, and the names that must be known.

    Raises:
        DeviceError: names the field, what came and what was expected.
    """
    profile = read_table(DeviceProfile, plain(raw))
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
    return profile


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
