"""Samples as they come back: columns over time, one table for each provider. numpy and the standard library, Python >= 3.10."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_TIME = "time_ns"
_SEPARATOR = "/"


@dataclass(frozen=True, eq=False)
class Series:
    """One provider's samples.

    Attributes:
        time_ns: int64 (n,), the clock that the calls are timed with.
        values: channel ("KIND:NAME", see `devices.worker.telemetry.source.KINDS`) -> float64 (n,); NaN where a sample lacks it.
    """

    time_ns: NDArray[np.int64]
    values: dict[str, Floats]


@dataclass(frozen=True, eq=False)
class Telemetry:
    """Everything that was sampled beside one job.

    Attributes:
        period_ms: between samples.
        cpu_share: of one CPU's time, spent on sampling: its cost.
        idle_ns: begin and end of the time before anything was loaded.
        series: provider -> samples.
        absent: provider -> why there are none.
    """

    period_ms: int
    cpu_share: float
    idle_ns: tuple[int, int]
    series: dict[str, Series] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The samples as the arrays of an .npz file: `PROVIDER/time_ns` and `PROVIDER/CHANNEL`."""
        return {
            f"{provider}{_SEPARATOR}{name}": values
            for provider, series in self.series.items()
            for name, values in {_TIME: series.time_ns, **series.values}.items()
        }


def read_arrays(arrays: dict[str, NDArray[Any]]) -> dict[str, Series]:
    """The series in what `Telemetry.arrays` wrote.

    Raises:
        ValueError: a provider has no time, or columns of another length or type.
    """
    found: dict[str, dict[str, NDArray[Any]]] = {}
    for key, values in arrays.items():
        provider, _, name = key.partition(_SEPARATOR)
        found.setdefault(provider, {})[name] = values
    result = {}
    for provider, columns in found.items():
        time_ns = columns.pop(_TIME, np.empty(0))
        if time_ns.dtype != np.int64 or time_ns.ndim != 1:
            raise ValueError(f"telemetry of '{provider}' has no {_TIME}; expected int64 (n,)")
        if any(values.shape != time_ns.shape or values.dtype != np.float64 for values in columns.values()):
            raise ValueError(f"telemetry of '{provider}' has columns of another length or type; expected float64 ({len(time_ns)},)")
        result[provider] = Series(time_ns, columns)
    return result


def columns(rows: list[tuple[int, dict[str, float]]]) -> Series:
    """Samples in order, each its time and channels -> columns."""
    names = dict.fromkeys(name for _, row in rows for name in row)
    values = {name: np.array([row.get(name, np.nan) for _, row in rows], np.float64) for name in names}
    return Series(np.array([time_ns for time_ns, _ in rows], np.int64), values)
