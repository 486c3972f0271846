"""The record of a run: what `record.json` holds. The one file that `reports` reads; imports neither torch nor pandas.

Format history (`schema`): 1 - first; 2 - targets of attacks, builds of engines, rounds and ratios;
parity, cross-check and a synthetic device by these names; successes that rounding undid, the CPU quota;
3 - requirements; queries of attacks;
4 - builds with other settings; the row that a set was made on; cross-engine replay; gap
decomposition; the radius of the network's own claim; 5 - seeds of attacks, their transfer rates
over all seeds; noise draw by draw; sets that an engine inherits.

Every accuracy is a share in [0, 1]; every interval is a 95 % interval (lower, upper) unless its name says otherwise.
Raw values stay in `samples.parquet` and `timings/`; what stands here can be computed again from them.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import UntrustedError, UsageError

SCHEMA = 5
RECORD = "record.json"

Interval = tuple[float, float]


Stored = TypeVar("Stored", bound=BaseModel)


def write_record(record: BaseModel, path: Path) -> None:
    """Write a record as JSON, whole or not at all, and safe on the disk.

    Raises:
        UsageError: a name in it, as of a folder that was made on another system, is not UTF-8.
        ValidationError: it could not be read again, as a NaN where a figure must be; the record that was there stays.
    """
    if (name := next(_not_utf8(record.model_dump()), None)) is not None:
        raise UsageError(f"{ascii(os.fsencode(name))[1:]} is not UTF-8, so {path} cannot name it; expected names in UTF-8. Rename it.")
    text = record.model_dump_json(indent=1, by_alias=True)
    type(record).model_validate_json(text)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _not_utf8(value: object) -> Iterator[str]:
    """Texts that hold bytes which are no character (see `os.fsdecode`), keys too."""
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        yield value
    elif isinstance(value, dict | list | tuple):
        for inner in (*value, *(value.values() if isinstance(value, dict) else ())):
            yield from _not_utf8(inner)


def read_record(kind: type[Stored], path: Path, schema: int, what: str) -> Stored:
    """Read a record that `write_record` wrote.

    Args:
        kind: its model.
        path: the file.
        schema: the one version that can be read.
        what: the file's folder ought to be, for the error.

    Raises:
        UsageError: there is no file.
        UntrustedError: it is damaged or of a schema this version does not know.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refused, parse_float=_finite)
        json.dumps(raw, ensure_ascii=False).encode()  # half a character, which JSON can escape, could not be written again
    except OSError as error:
        raise UsageError(f"{path.parent} is not {what}: {error.strerror or error} ({path.name})") from error
    except ValueError as error:
        raise UntrustedError(f"{path} is damaged: {error}") from error
    except RecursionError:
        raise UntrustedError(f"{path} is damaged: its lists and objects nest too deep") from None
    if not isinstance(raw, dict) or raw.get("schema") != schema:
        found = raw.get("schema") if isinstance(raw, dict) else type(raw).__name__
        raise UntrustedError(f"{path} has schema {found!r}; this version reads schema {schema}. Use the harness version that wrote it.")
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise UntrustedError(f"{path} is damaged: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _refused(constant: str) -> float:
    raise ValueError(f"it holds {constant}, which is no number")


def _finite(text: str) -> float:
    return value if math.isfinite(value := float(text)) else _refused(text)


class Part(BaseModel):
    """A piece of the record: frozen, and nothing in it that the schema does not name."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Verdict(StrEnum):
    """The answer to one claim, best first. `NOT_REFUTED` is the best that transferred attacks alone can give."""

    HOLDS = "HOLDS"
    NOT_REFUTED = "NOT REFUTED BY TRANSFER"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNTRUSTED = "UNTRUSTED"
    DEGRADED = "DEGRADED"
    FAILS = "FAILS"
    ENGINE_FAILED = "ENGINE FAILED"

    @property
    def sound(self) -> bool:
        """Whether the figures under this verdict may be relied on: compared, ranked, recommended."""
        return self not in (Verdict.UNTRUSTED, Verdict.ENGINE_FAILED)

    @property
    def exit_code(self) -> int:
        """The process's exit code for this verdict (see README, exit codes)."""
        return {"HOLDS": 0, "NOT_REFUTED": 0, "FAILS": 1, "DEGRADED": 1, "ENGINE_FAILED": 4}.get(self.name, 3)


class Share(Part):
    """A count out of n with its Wilson interval."""

    correct: int
    n: int
    accuracy: float
    ci95: Interval


class Median(Part):
    """The median of n figures, of which `missing` are larger than any that was found. None: it, or a bound, is among those; a bound also
    where n is too small to have one.
    """

    value: float | None
    n: int
    missing: int
    low: float | None = Field(description="of the 95 % interval between two order statistics")
    high: float | None


class Mismatch(Part):
    """Something that is not as the device's profile declares it, or that changed during the run. `engine`: whose job saw it."""

    engine: str
    what: str
    declared: str
    observed: str
    remedy: str


def hardware(seen: Mapping[str, Any]) -> str:
    """Which machine it is, as it says itself: CPU, GPU, power mode, CPUs to use, the instruction sets that choose kernels.

    Args:
        seen: of `devices.worker.environment.describe_machine` there, and of the device's probe.
    """
    named = [named_part(seen[key]) for key in ("cpu_model", "gpu", "power_mode") if seen.get(key)]
    cpus = min(filter(None, (seen.get("quota_cpus"), len(seen.get("affinity") or ()) or seen.get("cpus"))), default=None)
    return ", ".join(filter(None, [*named, f"{cpus:g} CPUs" if cpus else "", " ".join(seen.get("isa_flags") or ())]))


def named_part(seen: object) -> str:
    """What a part of a machine is called: of a GPU, which is told with its driver and the clock of that moment, its name."""
    return str(seen["name"]) if isinstance(seen, Mapping) and "name" in seen else str(seen)


class DeviceRecord(Part):
    """The device a run measured. `synthetic`: its clock is made up. `emulated`: its latency is withheld."""

    name: str
    kind: str
    emulated: bool
    synthetic: bool
    observed: dict[str, Any] = Field(description="what the worker saw: CPU model, ISA flags, governor, load, threads, versions")
    declared: dict[str, str] = Field(default={}, description="what the profile declares of it and is compared")
    before: dict[str, Any] = Field(default={}, description="its state before the first engine was loaded")
    after: dict[str, Any] = Field(default={}, description="its state after the last engine was measured")
    mismatches: list[Mismatch] = []
    recorded_from: str | None = Field(
        default=None, description="the state was read from recorded files in this folder, not from the device"
    )

    @property
    def timed_on(self) -> str:
        """The hardware that its times are of, since one name may stand for many machines (`host` is every computer); of an emulated CPU or
        a made-up clock none.
        """
        return "" if self.emulated or self.synthetic else hardware({**self.before, **self.observed})

    @property
    def timed_with(self) -> str:
        """The threads that its times are of; nothing where they are not known, or the times are none."""
        threads = self.observed.get("threads")
        return "" if self.emulated or self.synthetic or not threads else f"{threads} thread{'' if threads == 1 else 's'}"


class ModelRecord(Part):
    """The twin. `sha256` is that of the weights' file; `macs` are multiply-accumulates of convolutions and linear layers per image."""

    name: str
    source: Literal["zoo", "safetensors", "pt2", "onnx"]
    arch: str | None
    sha256: str
    parameters: int
    nonzero_parameters: int
    macs: int
    input_shape: tuple[int, int, int] = Field(description="channels, height, width")
    classes: int
    claimed_eps: str | None = Field(default=None, description="radius of its card's claim; None: it has none")
    remarks: list[str] = Field(default_factory=list, description="what a reader should know of the network before believing a figure")


class DataRecord(Part):
    """The images. `n` are attacked, all `n_clean` are classified; none of the calibration images is among them."""

    name: str
    sha256: str
    n: int
    n_clean: int
    class_names: list[str]
    calibration_name: str
    calibration_sha256: str
    calibration_n: int
    remarks: list[str] = Field(default_factory=list, description="what a reader should know of the images before believing a figure")


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


class Queries(Part):
    """How often an attack asked its target: times that it was asked about an image or a version of it."""

    total: int
    median: float = Field(description="over the attacked images")
    largest: int

    @classmethod
    def of(cls, counts: Sequence[int]) -> Queries:
        """Of the counts of the attacked images."""
        return cls(total=sum(counts), median=median(counts) if counts else 0.0, largest=max(counts, default=0))


class AttackRecord(Part):
    """One adversarial set, stored in `file` (arrays `images` uint8 NHWC, `index`, `labels`).

    In a cascade it holds only the images on which some model held out until then; `n` are those.
    """

    source: str = Field(description="why it was made, see `harness.sources.SOURCES`")
    target: str = Field(description="what it is aimed at: `twin`, or an engine (of S3: its graph read back into PyTorch)")
    made_on: str = Field(default="twin", description="the row of the answers of the model that was attacked: a target, or its graph")
    name: str = Field(description="of the attack; with NAME#2 and so on where its seed is not the run's first")
    library: str
    norm: Literal["Linf", "L2"]
    eps: float
    eps_exact: str = Field(description="the radius as a fraction, e.g. 8/255")
    steps: int
    step_size: str
    seed: int
    n: int
    n_attacked: int = Field(description="images that somebody who counts had right; the rest stay as they are")
    target_accuracy: float = Field(description="of the model that was attacked (`made_on`), on the `n` images of the set")
    linf_max: float
    l2_mean: float = Field(description="mean ||x' - x||_2 over the attacked images")
    l2_median: float | None = Field(description="median over the images that were fooled; the figure of a minimum-norm attack")
    zero_gradient_share: float = Field(
        description="share of attacked images whose loss gradient at the start is zero in more than 99 % of its entries"
    )
    undone_by_rounding: int = Field(
        default=0, description="attacked images that the attack's own floats fool while no bytes near them do: successes lost to rounding"
    )
    queries: Queries
    inherited_from: str | None = Field(
        default=None, description="the engine whose set this is: it answers as this one does, to the bit; None: made on this one"
    )
    set_sha256: str
    file: str

    @property
    def zero_gradients(self) -> int:
        """Attacked images whose loss gradient at the start is zero, see `zero_gradient_share`."""
        return round(self.zero_gradient_share * self.n_attacked)


class Flips(Part):
    """The paired 2x2 table of twin and engine on the same adversarial bytes, counts of images."""

    both_right: int
    twin_only: int
    engine_only: int
    both_wrong: int


class Transfer(Part):
    """One adversarial set replayed on one engine.

    An image counts as right where the model is right on the clean image and on x'.
    `transfer_rate`: of the images both have right when clean and that fool the twin, the share that fools the engine too;
    None if there is none.
    """

    engine: str
    source: str
    target: str = Field(description="what the set is aimed at, as in `attacks`")
    attack: str
    eps: float
    eps_exact: str
    n: int
    twin_accuracy: float
    engine_accuracy: float
    ci95: Interval
    transfer_rate: float | None
    transfer_ci95: Interval | None
    flips: Flips
    label_disagreement: float
    differential_evasion: float = Field(description="share of images the twin has right and the engine wrong")


class SeededTransfer(Part):
    """The transfer rate of one attack over all its seeds, on one engine: of the pairs of image and seed that count in `Transfer`.

    Sets of later seeds hold only the images on which some model held out until then.
    """

    engine: str
    source: str
    target: str = Field(description="what the sets are aimed at, as in `attacks`")
    attack: str = Field(description="its name with the first seed")
    eps_exact: str
    seeds: list[int]
    transfer_rate: float
    ci95: Interval = Field(description="bootstrap over the images, 2,000 resamples, seed 0")


class NoiseFloor(Part):
    """What random-sign noise does to the twin, draw by draw: each draw's accuracy is over the same `n` attacked images."""

    n: int
    eps_exact: str
    right: list[int] = Field(description="images right clean and under the draw, for each draw")
    minimum: float
    mean: float
    maximum: float
    ci95: Interval = Field(description="of the mean over draws of these images (Student's t)")
    worst: float = Field(description="accuracy over images that every draw leaves right: the worst draw of each image")


class Replay(Part):
    """What fools one model, shown byte for byte to another. Over images that both have right when clean and on which some set that is aimed
    at `made_for` alone fools it; `fooled`: the share on which one of these sets fools `shown_to` too. None: there is no such image.
    """

    made_for: str = Field(description="`twin`, or an engine")
    shown_to: str
    fooled: Share | None


class Gap(Part):
    """Robust accuracy lost from one model to another, on the same images. `lower`, `upper`: one-sided 95 % Tango bounds."""

    gap: float
    lower: float
    upper: float


class Level(Part):
    """A model of the decomposition. `lost`: from the level before it; None: it is the first."""

    name: Literal["parent", "twin", "quantized", "simulated", "engine", "rebuild"]
    model: str = Field(description="its row of answers")
    robust: Share
    lost: Gap | None


class Waterfall(Part):
    """The levels from the parent or the twin down to the engine and its worst build. The losses add up to that from first to last.

    `under` replay: attacks on the PyTorch models alone (of the parent: those on it), shown byte for byte; adaptive: all that the claim
    rests on.
    """

    under: Literal["replay", "adaptive"]
    sets: list[str] = Field(description="attacks, each with its source")
    levels: list[Level]


class Decomposition(Part):
    """Where one flavour's robustness goes. `replay`: twin less engine under S1 (G_replay); `adaptive`: under all sets (G_adapt)."""

    engine: str
    eps_exact: str
    n: int
    replay: Gap | None
    adaptive: Gap
    waterfalls: list[Waterfall]
    note: str = Field(default="", description="what is left out, and why")


class Gate(Part):
    """A condition under which the figures may be believed. `passed` is None where it was not tested."""

    name: str
    engine: str | None
    passed: bool | None
    observed: str
    limit: str
    remedy: str


class Claim(Part):
    """A claim and its answer. Gap, bounds and margin are shares; `lower` and `upper` are one-sided 95 % Tango bounds."""

    statement: str
    engine: str
    control: bool = Field(
        default=False,
        description="the float engine beside others: judged by itself, outside Holm's family; undecided, it does not count",
    )
    verdict: Verdict
    eps_exact: str
    twin_robust: Share | None
    engine_robust: Share | None
    gap: float | None = Field(description="twin accuracy - engine accuracy, worst case over the sources")
    lower: float | None
    upper: float | None
    margin: float
    n: int
    sources: list[str] = Field(default=[], description="of the sets that the claim rests on, see `harness.sources.SOURCES`")
    n_required: int | None = Field(description="images that would decide, at the discordance seen")
    p_value: float | None = Field(description="one-sided, of 'gap >= margin', Holm-adjusted over the claims")
    mcnemar_p: float | None = Field(description="exact and two-sided, of 'no gap'; beside the verdict, decides nothing")
    relative_robustness: float | None = Field(description="engine accuracy / twin accuracy, worst case over the sources")
    relative_ci95: Interval | None = Field(description="paired bootstrap over the images, 2,000 resamples, seed 0")
    reason: str


class Outcome(StrEnum):
    """The answer to one requirement."""

    PASS = "PASS"  # noqa: S105 - no password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_MEASURED = "NOT MEASURED"


class Requirement(Part):
    """One line of a requirements file, and whether the run meets it. Figures are in `unit`; shares and points are of 1."""

    name: str = Field(description="what is required, such as 'latency p99, batch 1'")
    kind: str = Field(description="its key in the file")
    engine: str | None = Field(description="None: it concerns the whole run")
    line: int = Field(description="of the file")
    side: Literal["at_most", "at_least", "all_of", "may_fail", "real"] = Field(description="how the figure must stand to the limit")
    unit: Literal["ms", "B", "images/s", "mJ", "share", "points", "count", "names", "truth"]
    limit: float | bool | list[str]
    observed: float | bool | list[str] | None
    interval: tuple[float | None, float | None] | None = Field(
        description="two one-sided bounds: the one that PASS needs at `Qualification.level`, the other at its confidence. None "
        "as a whole: one reading without sampling error; None as a bound: too few values to have it"
    )
    outcome: Outcome
    reason: str = Field(description="why it is undecided or not measured, and what would decide it; else what to know, or nothing")


class Qualification(Part):
    """The requirements file that a run was held against, and the rule for all its rows."""

    name: str
    sha256: str
    confidence: float = Field(description="that no row passes unjustly, over all rows together")
    sampled: int = Field(description="rows whose figure has a sampling error: they share what the confidence leaves")
    level: float = Field(description="1 - (1 - confidence) / sampled: of the one-sided bound with which a row passes (Bonferroni)")


class Step(StrEnum):
    """How far a run has come; a resumed run goes on after the last step that is in the record."""

    STARTED = "started"
    EXPORTED = "exported"
    ATTACKED = "attacked"
    MEASURED = "measured"
    FINISHED = "finished"


class RunRecord(Part):
    """A whole run."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null", protected_namespaces=())

    schema_: int = Field(default=SCHEMA, alias="schema")
    status: Step
    created: str = Field(description="ISO 8601, UTC")
    harness_version: str
    command: list[str]
    settings: dict[str, Any] = Field(description="the validated options of the run; a resumed run must have the same")
    tier: Literal["quick", "bench", "qualify"]
    seed: int
    environment: dict[str, Any] = Field(description="the workstation: platform, Python and library versions")
    device: DeviceRecord
    model: ModelRecord
    data: DataRecord
    engines: list[EngineRecord] = []
    ratios: list[Ratio] = Field(default=[], description="of the engines' latencies, pair by pair")
    attacks: list[AttackRecord] = []
    transfer: list[Transfer] = []
    seeded: list[SeededTransfer] = Field(default=[], description="transfer rates over all seeds, where a run has several")
    noise: NoiseFloor | None = Field(default=None, description="None: no noise was drawn (S0)")
    decompositions: list[Decomposition] = []
    replays: list[Replay] = Field(default=[], description="cross-engine replay (S6) at the primary radius; moves no verdict")
    gates: list[Gate] = []
    claims: list[Claim] = []
    verdict: Verdict | None = None
    qualification: Qualification | None = Field(default=None, description="None: no requirements file was given")
    requirements: list[Requirement] = []

    def save(self, folder: Path) -> None:
        """Write `folder/record.json`, whole or not at all."""
        write_record(self, folder / RECORD)

    @classmethod
    def load(cls, folder: Path) -> RunRecord:
        """Read `folder/record.json`.

        Raises:
            UsageError: there is no record there.
            UntrustedError: it is damaged or of a schema this version does not know.
        """
        return read_record(cls, folder / RECORD, SCHEMA, "a run folder")


if __name__ == "__main__":
    print(json.dumps(RunRecord.model_json_schema(by_alias=True), indent=1))
