"""The state a device is in: power mode, limits of its clocks, versions, memory. Read before and after a run.

A fact that cannot be read is None, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from devices.worker.environment import describe_machine
from devices.worker.reader import Reader
from devices.worker.spec import Watch

Limits = list[float]  # lowest and highest frequency that the clock may take now, in hertz

_MODE = re.compile(r"\bNV Power Mode:[ \t]*(\S+)")
_MODE_LIMIT = re.compile(r"\bPARAM (\w+): ARG MAX_FREQ: .*\bREAL_VAL: (\d+)")
_VERBOSE = "--verbose"
_RELEASE = re.compile(r"# R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)")
_CLOCK = re.compile(r"^(\w+):?[ \t]+(?![ \t]|Online=0)(?:.* )?MinFreq=(\d+) MaxFreq=(\d+)", re.MULTILINE)
_GPU_CLOCK = re.compile(r"gpu|ga10b|gv11b|gp10b|gm20b", re.IGNORECASE)
_SMI_FIELDS = ("name", "driver_version", "memory.total", "compute_cap", "clocks.sm", "clocks.max.sm")


def observe(reader: Reader, watch: Watch) -> dict[str, Any]:
    """Everything that `devices.host.compare` can hold against a profile. The commands are those of the profile; one it lacks is not run."""
    shown = reader.output(watch.clocks_query) if watch.clocks_query else None
    clocks = cpu_clocks(reader) | gpu_clocks(reader) | parse_clocks(shown or "")
    memory_kib = re.search(r"^MemTotal:\s+(\d+) kB", reader.text("/proc/meminfo"), re.MULTILINE)
    machine = describe_machine(reader)
    mode = _shown_mode(reader, watch.power_query)
    return {
        "recorded_from": str(reader.root) if reader.recorded else None,
        "model": reader.text("/proc/device-tree/model") or reader.text("/sys/class/dmi/id/product_name") or None,
        "cpu_model": machine["cpu_model"],
        "isa_flags": machine["isa_flags"],
        "python": machine["python"],
        "kernel": machine["kernel"],
        "l4t": parse_release(reader.text("/etc/nv_tegra_release")),
        "jetpack": (reader.output(("dpkg-query", "--showformat=${Version}", "--show", "nvidia-jetpack")) or "").strip() or None,
        "cuda": parse_cuda(reader.text("/usr/local/cuda/version.json")),
        "memory_bytes": int(memory_kib[1]) << 10 if memory_kib else None,
        "power_mode": parse_power_mode(mode),
        "mode_limits_hz": parse_mode_limits(mode),
        "governors": sorted({reader.text(path) for path in reader.paths("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")}),
        "clocks_hz": clocks,
        "clocks_locked": locked(reader, clocks),
        "gpu": gpu(reader) if "nvidia-smi" in watch.providers else None,
    }


def observe_now(watch: dict[str, Any], packages: Sequence[str]) -> dict[str, Any]:
    """What is looked at before any work: `state`, as `observe` gives it, and `versions` of the packages that are there.

    Args:
        watch: `power_query`, `clocks_query` and `providers`, as in `devices.worker.spec.Watch`.
        packages: import names.
    """
    power, clocks, providers = (tuple(map(str, watch[name])) for name in ("power_query", "clocks_query", "providers"))
    seen = observe(Reader(), Watch(power_query=power, clocks_query=clocks, providers=providers))
    return {"state": seen, "versions": versions(packages)}


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of packages by their import names, as their installers wrote them down; nothing is imported."""
    found, providers = {}, metadata.packages_distributions()
    for name in packages:
        for distribution in providers.get(name, ())[:1]:
            found[name] = metadata.version(distribution)
    return found


def _shown_mode(reader: Reader, query: tuple[str, ...]) -> str:
    """What the query prints; where `--verbose` is refused (old releases, a login without rights), what it prints without."""
    shown = reader.output(query) if query else None
    if shown is None and _VERBOSE in query:
        shown = reader.output([word for word in query if word != _VERBOSE])
    return shown or ""


def parse_power_mode(shown: str) -> str | None:
    """The mode's name in what `nvpmodel -q` prints: "NV Power Mode: MODE_30W", its number in the next line.

    None where the name is empty: then no mode was ever set, and the number is -1.
    """
    found = _MODE.search(shown)
    return found[1] if found else None


def parse_mode_limits(shown: str) -> dict[str, float]:
    """The highest clocks that the mode allows, in hertz, in what `nvpmodel -q --verbose` prints: gpu, emc, dla0_core …

    Those of the CPUs are left out: cpufreq has them, one by one.
    """
    return {name.lower(): float(value) for name, value in _MODE_LIMIT.findall(shown) if not name.startswith("CPU_")}


def parse_release(text: str) -> str | None:
    """The version of L4T in /etc/nv_tegra_release: "# R36 (release), REVISION: 4.3, GCID: …" is 36.4.3."""
    found = _RELEASE.search(text)
    return f"{found[1]}.{found[2]}" if found else None


def parse_cuda(text: str) -> str | None:
    """CUDA's version in its version.json: the "version" of the component "cuda"."""
    found = re.search(r'"cuda"\s*:\s*\{[^}]*"version"\s*:\s*"([\d.]+)"', text)
    return found[1] if found else None


def parse_clocks(shown: str) -> dict[str, Limits]:
    """CPU and GPU clocks in what `jetson_clocks --show` prints, in hertz (it prints kilohertz of CPUs).

    The memory clock is left out: once locked it keeps its limits, and how that shows differs between releases.
    """
    found = {}
    for name, low, high in _CLOCK.findall(shown):
        cpu = re.fullmatch(r"cpu\d+", name)
        if cpu or name == "GPU":
            factor = 1e3 if cpu else 1.0
            found[name.lower()] = [int(low) * factor, int(high) * factor]
    return found


def cpu_clocks(reader: Reader) -> dict[str, Limits]:
    """Limits of every CPU's clock, from cpufreq."""
    found = {}
    for folder in reader.paths("/sys/devices/system/cpu/cpu[0-9]*/cpufreq"):
        low, high = reader.number(f"{folder}/scaling_min_freq"), reader.number(f"{folder}/scaling_max_freq")
        if low is not None and high is not None:
            found[folder.split("/")[-2]] = [low * 1e3, high * 1e3]
    return found


def gpu_clocks(reader: Reader) -> dict[str, Limits]:
    """Limits of a Jetson's GPU clock, from devfreq."""
    for folder in reader.paths("/sys/class/devfreq/*"):
        low, high = reader.number(f"{folder}/min_freq"), reader.number(f"{folder}/max_freq")
        if _GPU_CLOCK.search(folder) and low is not None and high is not None:
            return {"gpu": [low, high]}
    return {}


def locked(reader: Reader, clocks: dict[str, Limits]) -> bool | None:
    """Whether no clock may change: its limits are one value, or a CPU's governor is `performance`. None where no clock is known."""
    if not clocks:
        return None
    held = {name for name in clocks if reader.text(f"/sys/devices/system/cpu/{name}/cpufreq/scaling_governor") == "performance"}
    return all(low == high or name in held for name, (low, high) in clocks.items())


def gpu(reader: Reader) -> dict[str, Any] | None:
    """The first NVIDIA GPU as nvidia-smi describes it; None where there is none."""
    shown = reader.output(("nvidia-smi", "--id=0", f"--query-gpu={','.join(_SMI_FIELDS)}", "--format=csv,noheader,nounits"))
    values = [value.strip() for value in (shown or "").strip().split(",")]
    if len(values) != len(_SMI_FIELDS):
        return None
    name, driver, mebibytes, sm, now, most = values
    return {
        "name": name,
        "driver": driver,
        "memory_bytes": int(mebibytes) << 20 if mebibytes.isdigit() else None,
        "sm": sm,
        "clock_mhz": float(now) if now.isdigit() else None,
        "highest_clock_mhz": float(most) if most.isdigit() else None,
    }
