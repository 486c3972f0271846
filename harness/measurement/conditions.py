"""The conditions that one batch size was timed under, from the samples beside it, and whether its figures count.

A measurement that was throttled, grew hot, lost its clock or shared the CPU is INVALID: it is kept, its reasons stand beside it, and its
figures are withheld. The limits are the profile's (`devices.host.profile.Limits`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.host.profile import Clocks, DeviceProfile, Limits
from devices.worker.telemetry.series import Telemetry
from harness.limits import apart
from harness.measurement.energy import difference
from harness.records import Conditions

QUARTER = 4
FEWEST = 4  # samples within the time, below which no course can be told
LOCKED_DROP = 0.02  # of a clock that is declared to be locked, either way

# What the kernel counts beyond its own resolution (a tick is 10 ms): over a shorter time a share of the CPU time is mostly rounding.
SHORTEST_S = 0.5


Window = tuple[int, int]


def conditions(telemetry: Telemetry, window_ns: Window, unit: str = "cpu", turns_ns: Sequence[Window] = ()) -> Conditions:
    """What was seen between two moments. A fact that no sensor tells is None.

    Args:
        telemetry: the samples.
        window_ns: the moments.
        unit: whose clock counts, `cpu` or `gpu`.
        turns_ns: the parts of the window in which other programs' CPU time counts; none: the whole of it.
    """
    load = _shares(telemetry, turns_ns or [window_ns])
    temperatures = list(_courses(telemetry, "temperature_c:", window_ns))
    course = _clock(telemetry, window_ns, unit)
    first_hz, last_hz, drop = (None, None, None) if course is None else _drop(course)
    throttled = sorted(_throttled(telemetry, window_ns))
    return Conditions(
        others_share=load[0],
        steal_share=load[1],
        start_temperature_c=max((float(values[0]) for _, values in temperatures), default=None),
        temperature_rise_c=max((float(values.max() - values[0]) for _, values in temperatures), default=None),
        clock=None if course is None else unit,
        clock_first_hz=first_hz,
        clock_last_hz=last_hz,
        clock_drop=drop,
        throttled=throttled if throttled or _watched(telemetry, window_ns) else None,
        **_quota(telemetry, window_ns),
    )


def faults(seen: Conditions, limits: Limits, clocks: Clocks) -> Iterator[str]:
    """Why a measurement does not count, one sentence with its remedy each; none where it does."""
    if seen.quota_throttled:
        yield (
            f"the CPU quota of {seen.quota_cpus:g} CPUs (cpu.max of its control group) stopped it in {seen.quota_throttled} of "
            f"{seen.quota_periods} periods: take the limit away, or raise it (docker --cpus, limits.cpu of Kubernetes, systemd's CPUQuota=)"
        )
    for name in seen.throttled or ():
        yield f"the hardware throttled itself ({name}): cool it, or give it a stronger power supply, and measure again"
    if seen.others_share is not None and seen.others_share > limits.others_share:
        yield (
            f"other programs took {apart(seen.others_share, limits.others_share, 0, '%')} of the CPU time (limit "
            f"{limits.others_share:.0%}): stop them"
        )
    if seen.steal_share is not None and seen.steal_share > limits.steal_share:
        yield (
            f"the hypervisor took {apart(seen.steal_share, limits.steal_share, 1, '%')} of the CPU time (limit {limits.steal_share:.0%}): "
            "measure on bare metal or on a dedicated virtual machine"
        )
    start, rise = seen.start_temperature_c, seen.temperature_rise_c
    if start is not None and limits.start_temperature_c is not None and start > limits.start_temperature_c:
        hot = apart(start, limits.start_temperature_c, 1)
        yield f"it began at {hot} °C (limit {limits.start_temperature_c:g}): let it cool for longer (limits.cooldown_s)"
    if rise is not None and limits.rise_c is not None and rise > limits.rise_c:
        grown = apart(rise, limits.rise_c, 1)
        yield f"it grew {grown} °C hotter meanwhile (limit {limits.rise_c:g}): improve the cooling, or measure for a shorter time"
    drop = seen.clock_drop or 0.0
    if drop > limits.frequency_drop or (clocks.locked and abs(drop) > LOCKED_DROP):
        first, last = (seen.clock_first_hz or 0.0) / 1e6, (seen.clock_last_hz or 0.0) / 1e6
        remedy = f"lock the clocks: {' '.join(clocks.lock)}" if clocks.lock else "fix the clocks: cpupower frequency-set -g performance"
        yield f"the {seen.clock.upper() if seen.clock else ''} clock went from {first:,.0f} to {last:,.0f} MHz meanwhile: {remedy}"


def unchecked(seen: Conditions) -> list[str]:
    """What nobody checked, because no sensor tells of it here or the time was too short."""
    observed = {
        "other programs": seen.others_share,
        "the hypervisor": seen.steal_share,
        "the CPU quota": seen.quota_cpus,
        "temperature": seen.start_temperature_c,
        "the clock": seen.clock_drop,
        "throttling": seen.throttled,
    }
    return [name for name, value in observed.items() if value is None]


def judge(
    profile: DeviceProfile, telemetry: Telemetry | None, window_ns: Window | None, unit: str = "cpu", turns_ns: Sequence[Window] = ()
) -> tuple[Conditions | None, list[str]]:
    """Conditions and faults of one measurement; nothing where nothing was sampled, or it is not known when the calls were. `turns_ns` as in
    `conditions`.
    """
    if telemetry is None or window_ns is None:
        return None, []
    seen = conditions(telemetry, window_ns, unit, turns_ns)
    return seen, list(faults(seen, profile.limits, profile.clocks))


def _shares(telemetry: Telemetry, turns_ns: Sequence[Window]) -> tuple[float | None, float | None]:
    """Shares of the CPU time of some turns together: other programs', the hypervisor's."""
    series = telemetry.series.get("load")
    if series is None or sum(end - start for start, end in turns_ns) < SHORTEST_S * 1e9:
        return None, None
    sums = []
    for name in ("busy", "steal", "total", "own"):
        grown = [difference(series.time_ns, series.values[f"ticks:{name}"], *turn) for turn in turns_ns]
        if None in grown:
            return None, None
        sums.append(sum(value for value in grown if value is not None))
    busy, steal, total, own = sums
    if not total:
        return None, None
    return min(max(busy - own, 0.0) / total, 1.0), max(steal, 0.0) / total


def _courses(telemetry: Telemetry, kind: str, window_ns: tuple[int, int]) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Every channel of a kind within the window: name and float64 (n,), n >= 1, without NaN. What stopped meanwhile is none."""
    for series in telemetry.series.values():
        inside = (series.time_ns >= window_ns[0]) & (series.time_ns <= window_ns[1])
        for channel, values in series.values.items():
            known = ~np.isnan(values)
            if channel.startswith(kind) and (known & inside).any() and _reach(telemetry, series.time_ns[known], window_ns):
                yield channel.removeprefix(kind), values[known & inside]


def _clock(telemetry: Telemetry, window_ns: tuple[int, int], unit: str) -> NDArray[np.float64] | None:
    """The clock's course; that of the CPU is the fastest of them at each moment: the scheduler may move the work from one to another."""
    courses = [
        course
        for name, course in _courses(telemetry, "frequency_hz:", window_ns)
        if name.rstrip("0123456789") == unit and len(course) >= FEWEST
    ]
    return np.max([course for course in courses if len(course) == len(courses[0])], axis=0) if courses else None


def _drop(course: NDArray[np.float64]) -> tuple[float, float, float]:
    """Medians of the first and of the last quarter, and by which share the clock fell."""
    part = max(len(course) // QUARTER, 1)
    first, last = float(np.median(course[:part])), float(np.median(course[-part:]))
    return first, last, (first - last) / first if first > 0 else 0.0


def _watched(telemetry: Telemetry, window_ns: tuple[int, int]) -> bool:
    """Whether anything told of throttling, all the time."""
    return any(
        channel.startswith(("events:", "throttled:")) and _reach(telemetry, series.time_ns[~np.isnan(values)], window_ns)
        for series in telemetry.series.values()
        for channel, values in series.values.items()
    )


def _reach(telemetry: Telemetry, time_ns: NDArray[np.int64], window_ns: tuple[int, int]) -> bool:
    """Whether samples, int64 (n,), reach over the window, give or take two of them."""
    slack_ns = 2 * telemetry.period_ms * 1_000_000
    return len(time_ns) > 0 and bool(time_ns[0] <= window_ns[0] + slack_ns and time_ns[-1] >= window_ns[1] - slack_ns)


def _quota(telemetry: Telemetry, window_ns: tuple[int, int]) -> dict[str, Any]:
    """CPUs of the quota, its periods and those in which it stopped the worker, from the sample before the window to the one after."""
    series = telemetry.series.get("load")
    if series is None or "quota:cpus" not in series.values:
        return {}
    around = _around(series.time_ns, window_ns)
    grown = {}
    for name in ("periods", "throttled"):
        counts = series.values[f"quota:{name}"][around] if f"quota:{name}" in series.values else np.empty(0)
        counts = counts[~np.isnan(counts)]
        grown[name] = max(int(counts[-1] - counts[0]), 0) if len(counts) else 0
    cpus = series.values["quota:cpus"][around]
    return {
        "quota_cpus": float(np.nanmin(cpus)) if not np.isnan(cpus).all() else None,
        "quota_periods": grown["periods"],
        "quota_throttled": grown["throttled"],
    }


def _around(time_ns: NDArray[np.int64], window_ns: tuple[int, int]) -> slice:
    """The samples of a window, with the one before it and the one after."""
    before, after = np.flatnonzero(time_ns <= window_ns[0]), np.flatnonzero(time_ns >= window_ns[1])
    return slice(int(before[-1]) if len(before) else 0, int(after[0]) + 1 if len(after) else len(time_ns))


def _throttled(telemetry: Telemetry, window_ns: tuple[int, int]) -> Iterator[str]:
    """Counters that grew, and states that were not 0, in the window. A counter is read from the sample before it to the one after."""
    for series in telemetry.series.values():
        for channel, values in series.values.items():
            kind, _, name = channel.partition(":")
            around = values[_around(series.time_ns, window_ns)]
            around = around[~np.isnan(around)]
            if len(around) and ((kind == "events" and around[-1] > around[0]) or (kind == "throttled" and around.any())):
                yield f"{name}: {around[-1] - around[0]:.0f} events" if kind == "events" else f"{name}: state 0x{int(around.max()):x}"
