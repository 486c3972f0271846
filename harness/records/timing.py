"""How long an engine took, and under what it was timed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.records.parts import Part


class Spread(Part):
    """One part of every timed call, in milliseconds, by the device's own events. Percentiles as in `Latency`."""

    mean: float
    p50: float
    p90: float | None
    p99: float | None


class Energy(Part):
    """Energy of one inference (one image): the integral of the power over the timed calls, divided by their images.

    `gross_mj` is all that was drawn, `net_mj` is less what the device drew at rest (None where rest was not measured).
    """

    sensor: str = Field(description="the rails or counters that were added up")
    inferences: int
    gross_mj: float = Field(description="millijoules")
    net_mj: float | None = Field(description="millijoules")
    mean_w: float
    idle_w: float | None


class Conditions(Part):
    """What the device did while one batch size was timed; None where no sensor tells it."""

    others_share: float | None = Field(description="share of the time of the CPUs it may use that other programs took")
    steal_share: float | None = Field(description="share of all CPU time that the hypervisor took")
    start_temperature_c: float | None = Field(description="the hottest sensor at the beginning")
    temperature_rise_c: float | None = Field(description="the largest rise of any sensor above its beginning")
    clock: str | None = Field(description="the unit whose clock fell most")
    clock_first_hz: float | None = Field(description="its median in the first quarter of the time")
    clock_last_hz: float | None = Field(description="its median in the last quarter")
    clock_drop: float | None
    throttled: list[str] | None = Field(description="reasons why the hardware throttled itself; None: no sensor tells whether it did")
    quota_cpus: float | None = Field(default=None, description="CPUs that the worker's control group may have; 0: as many as there are")
    quota_periods: int | None = Field(default=None, description="of the quota, while it was timed")
    quota_throttled: int | None = Field(default=None, description="periods in which the quota stopped the worker")


class TelemetryRecord(Part):
    """What was sampled beside the timing of one engine. `cpu_share`: what the sampling itself took of one CPU's time."""

    period_ms: int
    cpu_share: float
    samples: dict[str, int] = Field(description="provider -> samples")
    absent: dict[str, str] = Field(description="provider -> why it gave none")
    raw: str = Field(description="file of the raw samples, relative to the run folder: arrays PROVIDER/time_ns and PROVIDER/KIND:NAME")


class Latency(Part):
    """Wall time of one `infer` call at one batch size. A percentile is None below its minimum sample count.

    Where `invalid` has reasons, the measurement does not count: the reports withhold its figures.
    """

    unit: Literal["ms"] = "ms"
    n: int
    mean: float
    minimum: float
    maximum: float
    p50: float
    p90: float | None
    p95: float | None
    p99: float | None
    p999: float | None
    variation: float = Field(description="coefficient of variation, standard deviation / mean")
    first: float = Field(description="the first call at this batch size, before any warm-up")
    warmup_n: int
    stable: bool
    throughput_per_s: float = Field(description="images per second, batch / mean")
    raw: str = Field(description="file of the raw values, relative to the run folder")
    parts: dict[str, Spread] = Field(
        default={}, description="host_to_device, compute, device_to_host: where the time goes, for an engine with memory of its own"
    )
    invalid: list[str] = Field(default=[], description="why the measurement does not count, each with its remedy")
    conditions: Conditions | None = None
    energy: Energy | None = Field(default=None, description="None where no power sensor was sampled over the whole measurement")


class CrossCheck(Part):
    """What another program measures of the same engine file, at one batch size."""

    tool: str
    batch: int
    n: int
    parts: dict[str, Spread] = Field(description="as in `Latency.parts`")


class LoadGen(Part):
    """MLPerf LoadGen's own measurement of the engine. `valid` is its verdict on its run; MLPerf asks for longer ones than a quick tier.

    Where `invalid` has reasons, the device was throttled, shared or hot meanwhile: then it does not count, whatever LoadGen says.
    """

    scenario: Literal["SingleStream", "Offline"]
    valid: bool
    figures: dict[str, str] = Field(description="its summary, as it wrote it")
    invalid: list[str] = Field(default=[], description="why it does not count, each with its remedy")
    logs: str = Field(description="folder of its logs, relative to the run folder")


class Ratio(Part):
    """Latency of one engine / latency of another, round by round in turns.

    `low` is of the rounds' 10 % quantiles, `median` of their medians.

    Each with the smallest and the largest over the rounds. `decided`: every round names the same engine as the faster one.
    """

    above: str
    below: str
    batch: int
    low: float
    low_smallest: float
    low_largest: float
    median: float
    median_smallest: float
    median_largest: float
    rounds: int
    decided: bool
