"""Device profiles: one TOML file each, shipped or the user's own. Read on the workstation, never by the worker.

What a profile leaves out is not declared: nothing is compared with it. It holds no credentials, no user and no address.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from devices.host.errors import DeviceError
from devices.host.fields import read_table
from devices.host.profile_checks import check_profile, plain
from devices.host.transports import EMULATED, SSH
from devices.worker.spec import Watch

FOLDER = Path(__file__).parent / "profiles"
FLAVOURS = ("onnx-fp32", "ort-int8")  # of a CPU


@dataclass(frozen=True)
class Emulation:
    """How QEMU's user mode stands in for the device's CPU.

    Attributes:
        machine: the instruction set, one of `profile_checks.MACHINES` (the names of `uname -m`).
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
        unit: what has it, one of `profile_checks.UNITS`. `module`: every unit together.
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
        kind: what computes, one of `profile_checks.KINDS`; `jetson` is a GPU that shares the CPU's memory.
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
        software: names of `profile_checks.SOFTWARE` -> range of versions, e.g. ">=36.2,<37".
        capabilities: those of `profile_checks.CAPABILITIES` that its units have in hardware.
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
    check_profile(profile)
    return profile
