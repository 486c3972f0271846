"""What a profile declares against what the worker saw, before and after a job. Every difference has its remedy.

What is not declared is not compared. What is declared and cannot be read is a difference only where everything hangs on it: the power
mode and the locked clocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from devices.host.errors import DeviceError
from devices.host.profile import DeviceProfile
from devices.host.versions import satisfies

State = dict[str, Any]

MEMORY_SHARE = (0.85, 1.05)  # of the module's memory that Linux sees: firmware and carve-outs take the rest
GIB = 1 << 30
UNREADABLE = "could not be read"
MODE, CLOCKS = "power mode", "clocks"
MEANWHILE = "during the run"  # after what must not change


@dataclass(frozen=True)
class Mismatch:
    """One difference, in words."""

    what: str
    declared: str
    observed: str
    remedy: str


def mismatches(profile: DeviceProfile, before: State, after: State, runtime: str = "", version: str | None = None) -> list[Mismatch]:
    """Hold the states against the profile.

    Args:
        profile: what is declared.
        before, after: what `devices.worker.observed.observe` gave; an empty one was not taken (a synthetic clock), and nothing is compared.
            Of an emulated device only the instructions are, unless its state comes from a recorded tree.
        runtime, version: that ran the engine.
    """
    if not before:
        return []
    found = [*_instructions(profile, before)]
    if not profile.emulated or before.get("recorded_from"):
        found += [
            *_hardware(profile, before),
            *_software(profile, before, runtime, version),
            *_power(profile, before),
            *_changed(before, after),
        ]
    return found


def voids_time_only(what: str) -> bool:
    """Whether a difference by that name makes latency and energy those of another mode, and leaves every answer as it is."""
    return what in (MODE, CLOCKS) or what.endswith(MEANWHILE)


def declared(profile: DeviceProfile) -> dict[str, str]:
    """What the profile declares of all this, for the record: name -> value."""
    facts = {
        "module": profile.identity.module,
        "GPU": profile.identity.gpu,
        "compute capability": profile.identity.sm,
        "memory": f"{profile.identity.memory_gib:g} GiB" if profile.identity.memory_gib else None,
        "CPU": profile.cpu.model,
        "CPU extensions": ", ".join([*profile.cpu.isa, *(f"no {flag}" for flag in profile.cpu.without)]) or None,
        "power mode": profile.power.required,
        "clocks": "locked" if profile.clocks.locked else None,
        **profile.software,
    }
    return {name: value for name, value in facts.items() if value}


def _instructions(profile: DeviceProfile, state: State) -> Iterator[Mismatch]:
    seen = set(state.get("isa_flags") or ())
    lacking = [flag for flag in profile.cpu.isa if flag not in seen]
    surplus = [flag for flag in profile.cpu.without if flag in seen]
    if lacking or surplus:
        wrong = [*(f"no {flag}" for flag in lacking), *surplus]
        yield Mismatch(
            "CPU extensions",
            ", ".join([*profile.cpu.isa, *(f"no {flag}" for flag in profile.cpu.without)]),
            ", ".join(wrong),
            f"This is not the CPU of {profile.name}: choose its own profile (harness devices list), or write one.",
        )


def _hardware(profile: DeviceProfile, state: State) -> Iterator[Mismatch]:
    identity, card = profile.identity, state.get("gpu") or {}
    bytes_seen = card.get("memory_bytes") if profile.kind == "cuda" else state.get("memory_bytes")
    another = f"This is another module than {profile.name}: choose its own profile (harness devices list), or write one that extends it."
    if identity.memory_gib and bytes_seen:
        share = bytes_seen / (identity.memory_gib * GIB)
        if not MEMORY_SHARE[0] <= share <= MEMORY_SHARE[1]:
            yield Mismatch("memory", f"{identity.memory_gib:g} GiB", f"{bytes_seen / GIB:.1f} GiB", another)
    if profile.kind == "cuda":
        if not card:
            yield Mismatch("GPU", identity.gpu or "any", UNREADABLE, "Install the NVIDIA driver; nvidia-smi must answer.")
        for what, wanted, seen in (("GPU", identity.gpu, card.get("name")), ("compute capability", identity.sm, card.get("sm"))):
            if wanted and seen and wanted != seen:
                yield Mismatch(what, wanted, seen, another)


def _software(profile: DeviceProfile, state: State, runtime: str, version: str | None) -> Iterator[Mismatch]:
    seen = {name: state.get(name) for name in profile.software} | ({runtime: version} if runtime in profile.software else {})
    seen |= {"driver": (state.get("gpu") or {}).get("driver")} if "driver" in profile.software else {}
    for name, wanted in profile.software.items():
        have = seen[name]
        if have is None:
            continue
        try:
            fits = satisfies(have, wanted)
        except DeviceError:
            fits = False
        if not fits:
            remedy = f'Install {name} {wanted}, or declare the range that you have in a profile of your own (extends = "{profile.name}").'
            yield Mismatch(f"version of {name}", wanted, have, remedy)
    if profile.kind == "jetson" and "l4t" in profile.software and state.get("l4t") is None:
        yield Mismatch(
            "version of l4t", profile.software["l4t"], "no /etc/nv_tegra_release", "Is this a Jetson? Choose the device's own profile."
        )


def _power(profile: DeviceProfile, state: State) -> Iterator[Mismatch]:
    mode, power, clocks = state.get("power_mode"), profile.power, profile.clocks
    if power.required and mode != power.required:
        remedy = f"Run there: {power.remedy()}"
        if mode is not None and mode not in power.modes:
            remedy = (
                f"{profile.name} has the modes {', '.join(power.modes)}: this board was flashed with others. Choose its own profile "
                "(harness devices list), or write one that extends it."
            )
        if mode is None:
            remedy = f"See that this login may run there: {' '.join(power.query)}. To select the mode: {power.remedy()}"
        yield Mismatch(MODE, power.required, mode or UNREADABLE, remedy)
    if clocks.locked and not state.get("clocks_locked"):
        free = state.get("clocks_locked") is False
        remedy = f"Run there: {' '.join(clocks.lock)} (afterwards, to undo it: {' '.join(clocks.restore)})"
        yield Mismatch(CLOCKS, "locked", "not locked" if free else UNREADABLE, remedy)


def _changed(before: State, after: State) -> Iterator[Mismatch]:
    """What must not change while a job runs: the power mode and the limits of the clocks."""
    for what, key in (("power mode", "power_mode"), ("governors", "governors"), ("limits of the clocks", "clocks_hz")):
        if after and before.get(key) != after.get(key):
            was, now = _short(before.get(key), after.get(key)), _short(after.get(key), before.get(key))
            yield Mismatch(f"{what} {MEANWHILE}", f"unchanged: {was}", now, "Something changed it meanwhile: stop that, and measure again.")


def _short(value: Any, other: Any) -> str:
    """A value in words; of two mappings only what differs."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if not isinstance(other, dict) or other.get(key) != item}
        return ", ".join(f"{key} {' to '.join(f'{hertz / 1e6:g} MHz' for hertz in item)}" for key, item in kept.items()) or "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
