"""What a result may hold. A device that is damaged, or means harm, can send anything: what passes here is of the right form everywhere.

Figures can still be wrong; that is for the gates. numpy and the standard library only, Python >= 3.10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from devices.errors import DeviceError
from devices.job import FormatError, check_name
from devices.loadgen import SCENARIOS
from devices.table import read_table
from devices.telemetry import PROVIDERS
from devices.telemetry.source import KINDS

if TYPE_CHECKING:
    from devices.job import Job
    from devices.result import Checks, Result, Timing
    from devices.telemetry.series import Telemetry

LONGEST_NS = 10**15  # eleven days: no call takes as long
LARGEST = 1e18  # of a telemetry sample, either way: sums of them stay finite
MOST_BYTES = 1 << 50  # of memory
PARTS = ("host_to_device", "compute", "device_to_host")
MEASURED = ("ok", "nan")


@dataclass(frozen=True)
class Environment:
    """The fields of `Result.environment`: `devices.environment.describe_machine`, `Load.describe`, and the threads of the job."""

    cpu_model: str | None = None
    isa_flags: tuple[str, ...] = ()
    cpus: int | None = None
    affinity: tuple[int, ...] = ()
    quota_cpus: float | None = None
    machine: str | None = None
    emulator: str | None = None
    kernel: str | None = None
    python: str | None = None
    numpy: str | None = None
    clock_skew_s: float | None = None
    threads: int | None = None
    load_average_before: float | None = None
    load_average_after: float | None = None
    others_share_before: float | None = None
    others_share_meanwhile: float | None = None
    steal_share: float | None = None
    governor: str | None = None


@dataclass(frozen=True)
class Gpu:
    """See `devices.observed.gpu`."""

    name: str
    driver: str
    memory_bytes: int | None
    sm: str
    clock_mhz: float | None
    highest_clock_mhz: float | None


@dataclass(frozen=True)
class State:
    """The fields of `Result.before` and `after`, see `devices.observed.observe`."""

    recorded_from: str | None = None
    model: str | None = None
    cpu_model: str | None = None
    isa_flags: tuple[str, ...] = ()
    python: str | None = None
    kernel: str | None = None
    l4t: str | None = None
    jetpack: str | None = None
    cuda: str | None = None
    memory_bytes: int | None = None
    power_mode: str | None = None
    governors: tuple[str, ...] = ()
    clocks_hz: dict[str, Any] | None = None
    clocks_locked: bool | None = None
    gpu: Gpu | None = None


@dataclass(frozen=True)
class Peaks:
    """The fields of `Result.peaks`, see `devices.peaks`."""

    operations_per_s: dict[str, float]
    bytes_per_s: float
    cache_bytes: int | None


def check_result(result: Result) -> None:
    """Raise `FormatError` unless every part of a result is what its description says."""
    measured = result.status in MEASURED
    for name in ("job_sha256", "error", "runtime_version"):
        value = getattr(result, name)
        _require(isinstance(value, str) or (value is None and name != "job_sha256"), name, value, "text")
    _require(type(result.simulated) is bool, "simulated", result.simulated, "true or false")
    for name, most in (("load_ns", LONGEST_NS), *((name, MOST_BYTES) for name in ("baseline_bytes", "peak_bytes", "device_bytes"))):
        value = getattr(result, name)
        _require(value is None or (type(value) is int and 0 <= value <= most), name, value, f"a whole number from 0 to {most}")
    _require((result.error is None) == (result.status == "ok"), "error", result.error, f"a reason unless ok; status is {result.status}")
    _require(isinstance(result.options, dict), "options", result.options, "an object")
    for name, kind in (("environment", Environment), ("before", State), ("after", State), *((("peaks", Peaks),) if result.peaks else ())):
        check_fields(name, getattr(result, name), kind)
    if result.peaks:
        speeds = (*result.peaks["operations_per_s"].values(), result.peaks["bytes_per_s"], result.peaks["cache_bytes"] or 1)
        _require(all(0 < speed <= LARGEST for speed in speeds), "peaks", result.peaks, "figures above 0")
    if not measured:
        there = [name for name in ("outputs", "timings", "checks", "loadgen", "telemetry") if getattr(result, name)]
        _require(not there, "status", result.status, f"ok or nan, for it has {', '.join(there)}")
    _require(
        (result.checks is not None) == (result.status == "ok"), "checks", result.checks, "those of an engine that is ok, and no others"
    )
    if result.checks is not None:
        _check_checks(result.checks)
    _check_outputs(result.outputs, finite=result.status == "ok")
    for batch, timing in result.timings.items():
        check_timing(batch, timing)
    if result.telemetry is not None:
        _check_telemetry(result.telemetry)
    if (drive := result.loadgen) is not None:
        _require(drive.scenario in SCENARIOS and type(drive.valid) is bool, "loadgen", drive, f"a scenario of {', '.join(SCENARIOS)}")
        texts = isinstance(drive.figures, dict) and all(isinstance(value, str) for value in drive.figures.values())
        _require(texts, "loadgen.figures", drive.figures, "texts by name")


def check_answers(result: Result, job: Job, images: Mapping[str, int], classes: int | None) -> None:
    """Raise `FormatError` unless a sound result answers its job: every set, every batch size, and nothing else.

    Args:
        result: passed `check_result`.
        job: that was sent.
        images: input set -> how many it has.
        classes: of the model, where they are known.
    """
    if result.job_sha256 != job.digest:
        raise FormatError(f"it belongs to another job: {result.job_sha256[:12]}…, expected {job.digest[:12]}…")
    _require(result.simulated == job.simulated_clock, "simulated", result.simulated, str(job.simulated_clock))
    if result.status not in MEASURED:
        return
    _require(result.outputs.keys() == images.keys(), "outputs", sorted(result.outputs), f"those of {', '.join(sorted(images))}")
    width = classes or next(iter(result.outputs.values())).shape[1]
    for name, logits in result.outputs.items():
        _require(logits.shape == (images[name], width), f"outputs of '{name}'", logits.shape, f"shape ({images[name]}, {width})")
    wanted = set(job.latency.batches)
    _require(result.timings.keys() == wanted, "timings", sorted(result.timings), f"batch sizes {sorted(wanted)}")
    scenario = result.loadgen.scenario if result.loadgen else ""
    _require(scenario == job.latency.scenario, "loadgen.scenario", scenario, job.latency.scenario or "no LoadGen")
    if result.telemetry is not None:
        _require(
            result.telemetry.series.keys() <= set(job.watch.providers), "telemetry", sorted(result.telemetry.series), "what was asked for"
        )


def check_fields(name: str, value: Any, kind: type[Any]) -> None:
    """Raise `FormatError` unless `value` is an object with the fields of the dataclass `kind`, of their types."""
    _require(isinstance(value, dict), name, value, "an object")
    try:
        read_table(kind, value, name)
    except DeviceError as error:
        raise FormatError(str(error)) from error
    for clock, limits in (value.get("clocks_hz") or {}).items():
        sound = isinstance(limits, list) and len(limits) == 2 and all(type(hertz) in (int, float) for hertz in limits)
        _require(sound, f"{name}.clocks_hz.{clock}", limits, "two frequencies")


def check_timing(batch: int, timing: Timing) -> None:
    """Raise `FormatError` unless a batch size's calls are whole, positive and in order."""
    where, n = f"timings of batch {batch}", len(timing.latency_ns)
    _require(batch >= 1, "batch size", batch, "1 or more")
    _check_calls(f"{where}, latency_ns", timing.latency_ns, least=1)
    _check_calls(f"{where}, warmup_ns", timing.warmup_ns, least=1)
    _require(n >= 1, where, n, "one call or more")
    _require(1 <= timing.first_ns <= LONGEST_NS, f"{where}, first_ns", timing.first_ns, f"1 to {LONGEST_NS}")
    _require(type(timing.stable) is bool, f"{where}, stable", timing.stable, "true or false")
    for part, values in timing.parts_ns.items():
        _require(part in PARTS and len(values) == n, f"{where}, part {part}", len(values), f"{n} figures of {', '.join(PARTS)}")
        _check_calls(f"{where}, part {part}", values, least=0)
    starts = timing.start_ns
    _require(starts.dtype == np.int64 and starts.shape in ((0,), (n,)), f"{where}, start_ns", starts.shape, f"int64 ({n},)")
    if len(starts):
        _check_moments(f"{where}, start_ns", starts)
        _require(
            bool((starts[1:] >= starts[:-1] + timing.latency_ns[:-1]).all()), f"{where}, start_ns", "calls that overlap", "their order"
        )


def _check_calls(name: str, values: NDArray[Any], least: int) -> None:
    _require(values.dtype == np.int64 and values.ndim == 1, name, f"{values.dtype} {values.shape}", "int64 (n,)")
    _require(bool(((values >= least) & (values <= LONGEST_NS)).all()), name, "a value beyond that", f"{least} to {LONGEST_NS} ns")


def _check_moments(name: str, moments: NDArray[np.int64]) -> None:
    _require(bool(((moments > -LARGEST) & (moments < LARGEST)).all()), name, "a moment beyond that", f"within {LARGEST:g} ns")


def _check_outputs(outputs: dict[str, NDArray[np.float32]], *, finite: bool) -> None:
    for name, logits in outputs.items():
        check_name(name)
        _require(
            logits.dtype == np.float32 and logits.ndim == 2, f"outputs of '{name}'", f"{logits.dtype} {logits.shape}", "float32 (n, k)"
        )
        _require(logits.size > 0, f"outputs of '{name}'", logits.shape, "one image and one class or more")
        _require(not finite or bool(np.isfinite(logits).all()), f"outputs of '{name}'", "NaN or infinity", "finite logits where ok")


def _check_checks(checks: Checks) -> None:
    for name in ("timed_outputs_equal_accuracy_outputs", "graph_equal", "deterministic"):
        value = getattr(checks, name)
        _require(type(value) is bool or (value is None and name != "deterministic"), f"checks.{name}", value, "true or false")
    for name in ("timed_max_logit_error", "repeated_to_fresh_latency"):
        value = getattr(checks, name)
        _require(value is None or (type(value) in (int, float) and 0 <= value <= LARGEST), f"checks.{name}", value, "0 or more")
    _require(type(checks.repeats) is int and 1 <= checks.repeats <= LARGEST, "checks.repeats", checks.repeats, "1 or more")


def _check_telemetry(told: Telemetry) -> None:
    _require(type(told.period_ms) is int and told.period_ms >= 1, "telemetry.period_ms", told.period_ms, "1 or more")
    _require(type(told.cpu_share) in (int, float) and 0 <= told.cpu_share <= LARGEST, "telemetry.cpu_share", told.cpu_share, "0 or more")
    _require(told.idle_ns[0] <= told.idle_ns[1], "telemetry.idle_ns", told.idle_ns, "a beginning and an end")
    _require(isinstance(told.absent, dict) and told.absent.keys() <= PROVIDERS.keys(), "telemetry.absent", told.absent, "known providers")
    _require(all(isinstance(why, str) for why in told.absent.values()), "telemetry.absent", told.absent, "a reason for each")
    for provider, series in told.series.items():
        where = f"telemetry of '{provider}'"
        _require(provider in PROVIDERS, where, provider, f"one of {', '.join(PROVIDERS)}")
        _require(series.time_ns.ndim == 1 and len(series.time_ns) > 0, where, series.time_ns.shape, "int64 (n,)")
        _check_moments(where, series.time_ns)
        _require(bool((np.diff(series.time_ns) >= 0).all()), where, "moments out of order", "time that goes on")
        for channel, values in series.values.items():
            _require(channel.partition(":")[0] in KINDS, where, channel, f"KIND:NAME with a kind of {', '.join(KINDS)}")
            _require(not bool((np.abs(values) > LARGEST).any()), f"{where}, {channel}", "a value beyond that", f"{LARGEST:g} at most")


def _require(sound: bool, name: str, value: Any, expected: str) -> None:
    if not sound:
        shown = repr(value)
        raise FormatError(f"{name} is {shown if len(shown) <= 80 else f'{shown[:80]}…'}; expected {expected}")
