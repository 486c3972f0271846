"""What a device says of one engine that was measured there, without the arrays of timings and samples."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

LARGEST = 1 << 62  # of bytes and nanoseconds: what is computed from two of them still fits a number of 64 bits
Moment = Annotated[int, Field(ge=-LARGEST, le=LARGEST)]


class Loose(BaseModel):
    """What came from a device: what is not expected is ignored, what is expected must be of the right kind and size."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Memory(Loose):
    """Bytes before the runtime was imported, at the peak above them, and of an accelerator's own memory."""

    baseline_bytes: int | None = Field(default=None, ge=0, le=LARGEST)
    peak_bytes: int | None = Field(default=None, ge=0, le=LARGEST)
    device_bytes: int | None = Field(default=None, ge=0, le=LARGEST)


class Checks(Loose):
    """The measurement against itself, after MLPerf's compliance tests (TEST01: timed outputs are right; TEST04: no caching).

    Attributes:
        timed_max_logit_error: largest difference between the answers to timed calls and the untimed pass; None where nothing was timed, or
            by a clock of the engine's own.
        timed_outputs_equal_accuracy_outputs: it is within the limit of its gate.
        repeated_to_fresh_latency: of one input repeated / of inputs in turn, interleaved, fastest calls. Well below 1: answers are cached.
        own_clock: what a user's own engine says of the time of a call / what passes here, or where its answers are asked for, the smaller
            one; None without a clock of its own.
        deterministic: `repeats` passes over the same images gave the same bits.
        graph_equal: the engine whose graph was written gives the same bits as the measured one; None without a graph.
    """

    timed_max_logit_error: float | None = None
    timed_outputs_equal_accuracy_outputs: bool | None = None
    repeated_to_fresh_latency: float | None = None
    own_clock: float | None = None
    deterministic: bool = True
    repeats: int = 0
    graph_equal: bool | None = None


class Sampled(Loose):
    """How the samples beside the timing were taken; see `devices.worker.telemetry.series.Telemetry`."""

    period_ms: int = Field(ge=1, le=LARGEST)
    cpu_share: float = Field(ge=0, le=1e6)
    idle_ns: list[Moment] = Field(min_length=2, max_length=2)
    absent: dict[str, str]


class Opinion(Loose):
    """What another program measured of the same engine (see `devices.worker.trtexec`): nanoseconds of each part of a call, or nothing."""

    batch: int = Field(default=1, ge=1, le=LARGEST)
    parts_ns: dict[str, list[Annotated[int, Field(ge=0, le=LARGEST)]]] = {}

    @model_validator(mode="after")
    def _timed(self) -> Self:
        if self.parts_ns and not (self.parts_ns.get("compute") and all(self.parts_ns.values())):
            raise ValueError("a part of the call was not timed")
        return self


class Information(Loose):
    """What a TensorRT engine's file of evidence holds, beside what `export.evidence_tensorrt` reads."""

    trtexec: Opinion = Opinion()


class Drive(Loose):
    """What LoadGen says of one run: its verdict on its own run, its summary as text, and begin and end of it by the samples' clock."""

    window_ns: list[Moment] | None = Field(default=None, min_length=2, max_length=2)
    scenario: Literal["SingleStream", "Offline"]
    valid: bool
    figures: dict[str, str]


class Facts(Loose):
    """What was measured of one engine, without the arrays. `status` and `error` as in the record; `labels_only`: it tells no logits."""

    status: Literal["ok", "crashed", "hung", "nan", "refused", "built"]
    error: str | None = None
    runtime_version: str | None = None
    options: dict[str, Any] = {}
    plan_sha256: str | None = None
    labels_only: bool = False
    environment: dict[str, Any] = {}
    load_ns: int | None = None
    first_ns: int | None = None
    synthetic: bool = False
    memory: Memory = Memory()
    checks: Checks | None = None
    graph: str | None = None
    peaks: dict[str, Any] = {}
    drive: Drive | None = None
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    sampled: Sampled | None = None
    stable: dict[int, bool] = {}
