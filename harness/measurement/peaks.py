"""Where the roofline's peaks come from: measured on the device in the same run, else declared in its profile."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from devices.host.profile import DeviceProfile, Peak
from harness.measurement.roofline import Peaks

UNITS = {"onnxruntime": "cpu", "tensorrt": "gpu", "torch-tensorrt": "gpu"}
"""What computes for a runtime, as a profile names it (`devices.host.profile_checks.UNITS`)."""


def measured_peaks(found: Iterable[dict[str, Any]]) -> Peaks | None:
    """The best that any engine's worker saw of the CPU (see `devices.worker.peaks`): a peak is what can be reached, not what usually is."""
    seen = [peaks for peaks in found if peaks]
    if not seen:
        return None
    names = {name for peaks in seen for name in peaks["operations_per_s"]}
    return Peaks(
        {name: max(peaks["operations_per_s"].get(name, 0.0) for peaks in seen) for name in sorted(names)},
        max(peaks["bytes_per_s"] for peaks in seen),
        seen[0]["cache_bytes"],
        "measured in this run: a matrix product in onnxruntime and reading memory, with as many threads as the engine",
    )


def declared_peaks(profile: DeviceProfile, runtime: str) -> Peaks | None:
    """What the profile says of the unit that a runtime computes on, in the power mode that the profile requires, if it says it."""
    mode = profile.power.required
    chosen = [peak for peak in profile.peaks if peak.power_mode in (None, mode)]
    computing = _of(chosen, UNITS.get(runtime, ""))
    if computing is None or not computing.tops:
        return None
    memory = _of(chosen, "memory")
    source = "; ".join(peak.source for peak in (computing, memory) if peak is not None)
    return Peaks(
        {name: 1e12 * tops for name, tops in computing.tops.items()},
        1e9 * memory.gb_per_s if memory is not None and memory.gb_per_s else None,
        int(memory.cache_mib * (1 << 20)) if memory is not None and memory.cache_mib is not None else None,
        f"declared{f' for power mode {mode}' if computing.power_mode else ''}: {source}",
    )


def _of(peaks: Iterable[Peak], unit: str) -> Peak | None:
    return next((peak for peak in peaks if peak.unit == unit), None)
