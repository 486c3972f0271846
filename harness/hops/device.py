"""What the workers saw of the device beside their jobs, for the record: its state against the profile, and the samples of each engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from devices.host.compare import declared, mismatches
from devices.host.profile import DeviceProfile
from devices.result import Result
from harness import conditions
from harness.audit import gates
from harness.energy import energy
from harness.hops.measure import Measured
from harness.measurement import window_ns
from harness.peaks import UNITS
from harness.records import DeviceRecord, Latency, Mismatch, TelemetryRecord


def with_states(device: DeviceRecord, profile: DeviceProfile, measured: Sequence[Measured]) -> DeviceRecord:
    """The device's record with what is declared of it, its states, and where the two differ.

    Args:
        device: its name, kind and environment.
        profile: what is declared.
        measured: every engine's result. A simulated engine saw this computer, not the device, and is left out.
    """
    seen = [m.result for m in measured if m.result.before and not m.simulated]
    source = next((result.before.get("recorded_from") for result in seen), None)
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
    if m.simulated:
        return []
    result, artefact = m.result, m.exported.artefact
    found = mismatches(profile, result.before, result.after, artefact.runtime, result.runtime_version)
    return [Mismatch(engine=artefact.flavour, what=f.what, declared=f.declared, observed=f.observed, remedy=f.remedy) for f in found]


def with_conditions(latency: Latency, profile: DeviceProfile, m: Measured, batch: int) -> Latency:
    """The figures of one batch size with the conditions they were taken under, why they do not count, and the energy of an inference."""
    result = m.result
    timing = result.timings[batch]
    window, unit = window_ns(timing), UNITS[m.exported.artefact.runtime]
    seen, faults = conditions.judge(profile, result.telemetry, window, unit)
    wrong = [gates.in_words(found) for found in state_mismatches(profile, m)]
    used = None
    if result.telemetry is not None and window is not None:
        used = energy(result.telemetry, profile.telemetry.rails, window, batch * len(timing.latency_ns))
    return latency.model_copy(update={"invalid": wrong + faults, "conditions": seen, "energy": used})


def telemetry_record(result: Result, flavour: str, folder: Path) -> TelemetryRecord | None:
    """One engine's telemetry; its raw samples are copied into the run folder. None where nothing was sampled."""
    told = result.telemetry
    if told is None:
        return None
    raw = f"timings/{flavour}-telemetry.npz"
    (folder / "timings").mkdir(exist_ok=True)
    arrays: dict[str, Any] = {**told.arrays(), "idle_ns": np.array(told.idle_ns, np.int64)}
    np.savez_compressed(folder / raw, **arrays)
    return TelemetryRecord(
        period_ms=told.period_ms,
        cpu_share=told.cpu_share,
        samples={provider: len(series.time_ns) for provider, series in told.series.items()},
        absent=told.absent,
        raw=raw,
    )
