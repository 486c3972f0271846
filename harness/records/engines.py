"""What an engine is, and what was measured of it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from harness.records.parts import Part, Share
from harness.records.timing import CrossCheck, Latency, LoadGen, TelemetryRecord


class LintFinding(Part):
    """A lint rule that an artefact breaks for its runtime; errors fail the export, so none is here. See `harness lint --rules`."""

    rule: str
    severity: Literal["warning", "info"]
    node: str = Field(description="empty where it concerns the whole file")
    reason: str
    remedy: str


class Parity(Part):
    """How far an artefact is from its twin before any device is involved: largest |logit difference|, share of equal top-1."""

    n: int
    max_logit_error: float
    top1_agreement: float
    passed: bool
    limit: str
    lint: list[LintFinding] = Field(default=[], description="what the lint says of the file for its runtime")


class KernelShare(Part):
    """What part of an engine runs in one kind of kernel: of its layers, of the measured time (None if not profiled), of its MACs."""

    layers: float
    time: float | None
    macs: float


class PrecisionEvidence(Part):
    """What the runtime really ran, read from its own optimised graph or engine inspector.

    `integer_mac_share`: share of convolution and linear MACs in integer kernels, None where it could not be read.
    `label`: the precision the report may print; the claimed one only where the evidence supports it.
    """

    claimed: str
    label: str
    integer_mac_share: float | None
    kernels: dict[str, int] = Field(description="operator of the optimised graph -> how many")
    note: str
    shares: dict[str, KernelShare] = Field(
        default={}, description="kind of kernel (int8, fp16, fp32, movement, unknown; sparse is part of these) -> its shares"
    )


class Floor(Part):
    """No call can be faster than `ms`: an estimate. `bound` says what sets it."""

    ms: float
    bound: Literal["arithmetic", "memory"]


class Roofline(Part):
    """The floor under an engine's latency, from the processor's peaks: always an estimate, see `harness.measurement.roofline`."""

    arithmetic: str = Field(description="what the MACs are counted at: the fastest that the artefact's precision allows")
    operations_per_s: float
    bytes_per_s: float | None
    cache_bytes: int | None
    source: str = Field(description="where the peaks come from")
    floors: dict[str, Floor] = Field(description="batch size -> floor")


class Memory(Part):
    """Bytes. `peak_bytes` is the worker's peak resident set less `baseline_bytes`, its resident set before the runtime was imported.

    `device_bytes`: what the engine took of the accelerator's own memory.
    """

    artefact_bytes: int | None
    baseline_bytes: int | None
    peak_bytes: int | None
    device_bytes: int | None = None


class EngineRecord(Part):
    """One engine on one device: a flavour, and which of its builds.

    Where `status` is not `ok`, `error` says what happened and the measured parts are absent.

    Status `built`: the engine was built ahead of time and could not be run here. `simulated`: how the engine was simulated, where its own
    runtime did not run; then nothing here was measured on the engine itself.
    """

    flavour: str
    build: int = Field(default=0, description="from 0; in names the second is FLAVOUR#2")
    name: str = Field(description="flavour and build, as `attacks`, `transfer`, `gates` and `claims` call it")
    runtime: str
    runtime_version: str | None
    options: dict[str, Any]
    artefact_sha256: str | None
    plan_sha256: str | None = Field(description="of the plan that really ran")
    status: Literal["ok", "crashed", "hung", "nan", "refused", "built"]
    error: str | None
    simulated: str | None = None
    varied: str | None = Field(
        default=None,
        description="how its settings differ from those asked for, where its runtime builds the same engine each time: then "
        "its answers count, and it was not timed",
    )
    parity: Parity | None = Field(description="None for the user's own engine, which was not exported here")
    precision_evidence: PrecisionEvidence | None
    load_ms: float | None
    first_ms: float | None = Field(default=None, description="the first call after loading, one image")
    latency: dict[str, Latency] = Field(description="batch size -> latency")
    memory: Memory
    roofline: Roofline | None = None
    cross_check: CrossCheck | None = None
    loadgen: LoadGen | None = None
    telemetry: TelemetryRecord | None = None
    clean: Share | None
    warnings: list[str] = Field(description="what the measurement says against itself, each with a remedy")
