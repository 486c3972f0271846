"""Energy from samples: of power by the trapezoidal rule, of a counter by its difference; both interpolated at the ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from devices.worker.telemetry.series import Series, Telemetry
from harness.records import Energy

POWER, COUNTER = "power_w:", "energy_j:"
FEWEST = 3  # samples within the time that is integrated


def most_turns(measure_s: float, period_ms: int) -> int:
    """Into how many turns that time can be cut so that each holds the samples of power that `integral` needs, and two to spare."""
    return max(1, int(measure_s * 1e3 / ((FEWEST + 2) * period_ms)))


def integral(time_ns: NDArray[np.int64], values: NDArray[np.float64], start_ns: int, end_ns: int) -> float | None:
    """∫ values dt from `start_ns` to `end_ns`, in units of `values` times seconds; exact for a piecewise linear course.

    Args:
        time_ns: int64 (n,), increasing.
        values: float64 (n,); samples that are NaN are left out.

    Returns:
        None where the samples do not reach over both ends, or fewer than `FEWEST` lie between them.
    """
    known = ~np.isnan(values)
    time, course = time_ns[known], values[known]
    inside = (time > start_ns) & (time < end_ns)
    if not len(time) or time[0] > start_ns or time[-1] < end_ns or inside.sum() < FEWEST:
        return None
    seconds = (np.concatenate([[start_ns], time[inside], [end_ns]]) - start_ns) / 1e9
    ends = np.interp([start_ns, end_ns], time.astype(np.float64), course)
    return float(np.trapezoid(np.concatenate([ends[:1], course[inside], ends[1:]]), seconds))


def difference(time_ns: NDArray[np.int64], counter: NDArray[np.float64], start_ns: int, end_ns: int) -> float | None:
    """By how much a growing counter grew between two moments, interpolated; None as in `integral`."""
    known = ~np.isnan(counter)
    time, course = time_ns[known], counter[known]
    if len(time) < 2 or time[0] > start_ns or time[-1] < end_ns:
        return None
    first, last = np.interp([start_ns, end_ns], time.astype(np.float64), course)
    return float(last - first)


def energy(telemetry: Telemetry, rails: Sequence[str], windows_ns: Sequence[tuple[int, int]], inferences: int) -> Energy | None:
    """Energy of each inference in a window, as drawn and less what the device draws at rest.

    Args:
        telemetry: the samples.
        rails: power sensors to add up, from the profile; empty: the CPU packages' counters, else the GPU's power.
        windows_ns: begin of the first and end of the last call of each turn that the engine had.
        inferences: images in all calls of the windows.

    Returns:
        None where no sensor, or not every rail, was sampled over the whole window, where a counter did not grow in one, or what was drawn
        is not above 0, since the sensor did not tell then: no figure is made up.
    """
    found = _find(telemetry, rails)
    if found is None:
        return None
    series, channels = found
    measure = difference if channels[0].startswith(COUNTER) else integral
    drawn = [measure(series.time_ns, series.values[channel], *window) for channel in channels for window in windows_ns]
    idle_ns = max(telemetry.idle_ns[0], int(series.time_ns[0])), telemetry.idle_ns[1]  # the first sample comes a moment after rest begins
    rest = [measure(series.time_ns, series.values[channel], *idle_ns) for channel in channels]
    joules = sum(value for value in drawn if value is not None)
    if None in drawn or joules <= 0 or (measure is difference and min(value or 0.0 for value in drawn) <= 0):
        return None
    seconds, idle_s = sum(end - start for start, end in windows_ns) / 1e9, (idle_ns[1] - idle_ns[0]) / 1e9
    idle_w = None if None in rest or idle_s <= 0 else sum(value for value in rest if value is not None) / idle_s
    return Energy(
        sensor=" + ".join(channel.partition(":")[2] for channel in channels),
        inferences=inferences,
        gross_mj=joules / inferences * 1e3,
        net_mj=None if idle_w is None else (joules - idle_w * seconds) / inferences * 1e3,
        mean_w=joules / seconds,
        idle_w=idle_w,
    )


def _find(telemetry: Telemetry, rails: Sequence[str]) -> tuple[Series, list[str]] | None:
    """The first provider that has every rail, and its channels."""
    if rails:
        wanted = [f"{POWER}{rail}" for rail in rails]
        return next(((series, wanted) for series in telemetry.series.values() if set(wanted) <= series.values.keys()), None)
    for kind in (COUNTER, f"{POWER}gpu"):
        for series in telemetry.series.values():
            if channels := sorted(channel for channel in series.values if channel.startswith(kind)):
                return series, channels
    return None
