"""What the workers saw of the device beside their jobs, for the record: its state against the profile, and the samples of each engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from devices.host.compare import declared, mismatches
from devices.host.profile import DeviceProfile
from devices.worker.telemetry.series import Series, Telemetry
from harness.audit import gates
from harness.measurement import conditions
from harness.measurement.energy import energy
from harness.measurement.latency import windows_ns
from harness.measurement.peaks import UNITS
from harness.records import Conditions, DeviceRecord, Latency, Mismatch, TelemetryRecord
from harness.stages.measured import Measured
from reports.sections.telemetry import INVALID


def with_states(device: DeviceRecord, profile: DeviceProfile, measured: Sequence[Measured]) -> DeviceRecord:
    """The device's record with what is declared of it, its states, and where the two differ.

    Args:
        device: its name, kind and environment.
        profile: what is declared.
        measured: every engine's results. A simulated engine saw this computer, not the device, and is left out.
    """
    seen = [m.facts for m in measured if m.facts.before and not m.engine.simulated]
    source = next((facts.before.get("recorded_from") for facts in seen), None)
    return device.model_copy(
        update={
            "declared": declared(profile),
            "before": seen[0].before if seen else {},
            "after": seen[-1].after if seen else {},
            "mismatches": [wrong for m in measured for wrong in state_mismatches(profile, m)],
            "recorded_from": source,
        }
    )


def state_mismatches(profile: DeviceProfile, m: Measured) -> list[Mismatch]:
    """Where the device that ran one engine is not as declared, or changed meanwhile."""
    if m.engine.simulated:
        return []
    facts, engine = m.facts, m.engine
    found = mismatches(profile, facts.before, facts.after, engine.runtime, facts.runtime_version)
    return [Mismatch(engine=engine.name, what=f.what, declared=f.declared, observed=f.observed, remedy=f.remedy) for f in found]


def with_conditions(latency: Latency, profile: DeviceProfile, m: Measured, everyone: Sequence[Measured], batch: int) -> Latency:
    """The figures of one batch size with the conditions they were taken under, why they do not count, and the energy of an inference.

    Engines took turns, so the conditions are those of the whole time that the batch size was timed in, and what all engines of this run
    took of the CPU is nobody else's.
    """
    timing = m.timings[batch]
    seen, wrong = while_timed(profile, m, everyone, batch)
    used = None
    if m.telemetry is not None and (turns := windows_ns(timing)):
        used = energy(m.telemetry, profile.telemetry.rails, turns, batch * len(timing.latency_ns))
    return latency.model_copy(update={"invalid": wrong, "conditions": seen, "energy": used})


def while_timed(profile: DeviceProfile, m: Measured, everyone: Sequence[Measured], batch: int) -> tuple[Conditions | None, list[str]]:
    """`observed` over the whole time that a batch size was timed in.

    A user's own engine tells no samples: when it had its turns is on another clock, perhaps of another machine, and what it took of the CPU
    is not known. Where one was timed too, other programs are looked for in the turns of the others alone: it would be one of them.
    """
    timed = [one for one in everyone if batch in one.timings]
    windows = [found for one in timed if one.telemetry is not None for found in windows_ns(one.timings[batch])]
    whole = (min(start for start, _ in windows), max(end for _, end in windows)) if windows else None
    return observed(profile, m, everyone, whole, windows if any(one.telemetry is None for one in timed) else ())


def outcome(m: Measured, profile: DeviceProfile, everyone: Sequence[Measured]) -> str:
    """One engine's result in a line: the median latency of each batch size, that it does not count and why, or what went wrong."""
    where = f"{m.engine.name} {'simulated, not run' if m.engine.simulated else f'on {profile.name}'}"
    if m.facts.error is not None:
        return f"{where}: {m.facts.status}: {m.facts.error}"
    parts: list[str] = [m.facts.status]
    reasons: dict[str, None] = {}
    for batch, timing in sorted(m.timings.items()):
        _, wrong = while_timed(profile, m, everyone, batch)
        parts.append(f"batch {batch}: {INVALID if wrong else f'{np.median(timing.latency_ns) / 1e6:.3g} ms'}")
        reasons |= dict.fromkeys(wrong)
    return "; ".join([f"{where}: {', '.join(parts)}", *reasons])


def observed(
    profile: DeviceProfile,
    m: Measured,
    everyone: Sequence[Measured],
    window_ns: tuple[int, int] | None,
    turns_ns: Sequence[tuple[int, int]] = (),
) -> tuple[Conditions | None, list[str]]:
    """The conditions of one engine's measurement between two moments, and why it does not count. `turns_ns`: see `conditions`."""
    telemetry = (
        None if m.telemetry is None else with_own_of_all(m.telemetry, [one.telemetry for one in everyone if one.telemetry is not None])
    )
    seen, faults = conditions.judge(profile, telemetry, window_ns, UNITS.get(m.engine.runtime, "cpu"), turns_ns)
    return seen, [gates.in_words(found) for found in state_mismatches(profile, m)] + faults


def with_own_of_all(telemetry: Telemetry, everyone: Sequence[Telemetry]) -> Telemetry:
    """The samples beside one engine, with the CPU time of every engine of the run as the run's own."""
    load = telemetry.series.get("load")
    others = [one.series["load"] for one in everyone if one is not telemetry and "load" in one.series]
    if load is None or not others:
        return telemetry
    own = load.values["ticks:own"] + sum(
        np.interp(load.time_ns, other.time_ns, other.values["ticks:own"]) - other.values["ticks:own"][0] for other in others
    )
    return replace(telemetry, series={**telemetry.series, "load": Series(load.time_ns, {**load.values, "ticks:own": own})})


def telemetry_record(m: Measured, folder: Path) -> TelemetryRecord | None:
    """One engine's telemetry; its raw samples are copied into the run folder. None where nothing was sampled."""
    telemetry = m.telemetry
    if telemetry is None:
        return None
    raw = f"timings/{m.engine.name}-telemetry.npz"
    (folder / "timings").mkdir(exist_ok=True)
    arrays: dict[str, Any] = {**telemetry.arrays(), "idle_ns": np.array(telemetry.idle_ns, np.int64)}
    np.savez_compressed(folder / raw, **arrays)
    return TelemetryRecord(
        period_ms=telemetry.period_ms,
        cpu_share=telemetry.cpu_share,
        samples={provider: len(series.time_ns) for provider, series in telemetry.series.items()},
        absent=telemetry.absent,
        raw=raw,
    )
