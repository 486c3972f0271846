"""A job: the folder that goes out to a device, `job.json` with the files it names. numpy and the standard library only, Python >= 3.10.

Everything the worker is to do stands in the job, so that a job's digest says whether a finished result may be used again.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.files import sha256_file, write_whole
from devices.plain import read_json

SCHEMA = 4  # history of job.json: 1 - first; 2 - watch; 3 - batches and sparse, for runtimes that build; 4 - scenario
JOB = "job.json"
SILENCE_LIMIT_S = 120.0
INFER_BATCH = 32

_MOST_JSON_BYTES = 1 << 24
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,199}")
_PATH = re.compile(r"[\w][\w.+-]{0,205}(/[\w][\w.+-]{0,205}){0,3}")


class FormatError(ValueError):
    """A job or result that is damaged, of an unknown version, or that asks for something impossible."""


@dataclass(frozen=True)
class File:
    """A file of a job or a result: `path` is relative to its folder, `sha256` is that of its bytes."""

    path: str
    sha256: str

    def __post_init__(self) -> None:
        if not (isinstance(self.path, str) and _PATH.fullmatch(self.path) and isinstance(self.sha256, str)):
            raise FormatError(f"{str(self.path)[:80]!r} is no path of a file in this folder")

    @classmethod
    def of(cls, folder: Path, path: str) -> File:
        """Describe the file that is at `folder/path` now."""
        return cls(path, sha256_file(folder / path))

    def verify(self, folder: Path) -> Path:
        """The file's full path, once it is known to be inside `folder` and unchanged.

        Raises:
            FormatError: it lies outside the folder, is missing, or its bytes changed.
        """
        full = folder / self.path
        if not full.resolve().is_relative_to(folder.resolve()):
            raise FormatError(f"{self.path} lies outside its folder")
        if not full.is_file():
            raise FormatError(f"{self.path} is missing; was the folder copied whole?")
        found = sha256_file(full)
        if found != self.sha256:
            raise FormatError(f"{self.path} changed on the way: sha256 {found[:12]}…, expected {self.sha256[:12]}…. Run again without it.")
        return full


@dataclass(frozen=True)
class Options:
    """What the runtime is told. Unset is not an option: every figure depends on these.

    Attributes:
        input_name, output_name: the model's one input and the output that holds the logits.
        threads: that compute one call.
        graph_optimisation: `disabled`, `basic`, `extended` or `all`.
        session_config: further entries of the runtime's own configuration, e.g. {"session.x64quantprecision": "1"}.
        batches: smallest, usual and largest batch, for a runtime that builds its engine for them.
        sparse: the weights are 2:4 sparse, so that a runtime may choose kernels that use it.
    """

    input_name: str
    output_name: str
    threads: int
    graph_optimisation: str = "all"
    session_config: dict[str, str] = field(default_factory=dict)
    batches: tuple[int, int, int] = (1, 8, 32)
    sparse: bool = False


@dataclass(frozen=True)
class LatencyPlan:
    """What is timed, and for how long.

    Attributes:
        input: the input set whose images are fed while timing.
        batches: batch sizes, each timed by itself. A batch larger than the set takes images again from its start.
        measure_s: time floor of the measurement of one batch size.
        warmup_floor_s, warmup_cap_s: the warm-up lasts at least the floor, then until three windows agree, at most until the cap.
        scenario: a member of `devices.loadgen.SCENARIOS`: MLPerf LoadGen drives the engine too, for `measure_s`. Empty: it does not.
    """

    input: str
    batches: tuple[int, ...] = (1, 8, 32)
    measure_s: float = 2.0
    warmup_floor_s: float = 0.5
    warmup_cap_s: float = 10.0
    scenario: str = ""


@dataclass(frozen=True)
class Watch:
    """What is observed of the device beside the job; see `devices.profile`, where each of these is declared.

    Attributes:
        providers: keys of `devices.telemetry.PROVIDERS`, sampled every `period_ms` beside the timing.
        idle_s: watched before anything is loaded.
        throttle_counters: glob patterns of files.
        power_query, clocks_query: commands that show the power mode and the clocks.
        affinity: CPUs that the worker binds itself to; empty: it stays as it was started.
        start_temperature_c, cooldown_s: the worker waits so long for the hottest sensor to be no hotter before it times a batch size.
    """

    providers: tuple[str, ...] = ()
    period_ms: int = 100
    idle_s: float = 0.5
    throttle_counters: tuple[str, ...] = ()
    power_query: tuple[str, ...] = ()
    clocks_query: tuple[str, ...] = ()
    affinity: tuple[int, ...] = ()
    start_temperature_c: float | None = None
    cooldown_s: float = 0.0


@dataclass(frozen=True)
class Job:
    """One artefact, one runtime, one fresh process.

    Attributes:
        flavour: of the artefact; only for messages.
        runtime: a key of `devices.engines.ENGINES`.
        artefact: the model file.
        options: what the runtime is told.
        inputs: name -> .npy file, uint8 (n, height, width, channels). All are classified; one is timed.
        latency: what is timed.
        infer_batch: batch size where nothing is timed.
        seed: of the order of the batch sizes, and of the simulated clock.
        silence_limit_s: a worker that says nothing for so long has hung. A living one speaks about once a second, or every five calls.
        device: name of the device profile; `devices.run` fills it in.
        simulated_clock: no real time is read; `devices.run` fills it in.
        watch: what is observed beside it; `devices.run` fills it in.

    Raises:
        FormatError: a value that cannot be.
    """

    flavour: str
    runtime: str
    artefact: File
    options: Options
    inputs: dict[str, File]
    latency: LatencyPlan
    infer_batch: int = INFER_BATCH
    seed: int = 0
    silence_limit_s: float = SILENCE_LIMIT_S
    device: str = ""
    simulated_clock: bool = False
    watch: Watch = Watch()

    def __post_init__(self) -> None:
        plan = self.latency
        for name, count in (
            ("threads", self.options.threads),
            ("infer_batch", self.infer_batch),
            *(("batch size", b) for b in plan.batches),
        ):
            if not isinstance(count, int) or count < 1:
                raise FormatError(f"{name} is {count!r}; expected a whole number, 1 or more")
        for name in ("measure_s", "warmup_floor_s", "warmup_cap_s"):
            seconds = getattr(plan, name)
            if not (math.isfinite(seconds) and seconds >= 0):
                raise FormatError(f"{name} is {seconds!r}; expected seconds")
        if not (math.isfinite(self.silence_limit_s) and self.silence_limit_s > 0):
            raise FormatError(f"silence_limit_s is {self.silence_limit_s!r}; expected seconds")
        if plan.input not in self.inputs:
            raise FormatError(f"the latency plan times input set '{plan.input}'; the job has {', '.join(self.inputs) or 'none'}")
        for name in self.inputs:
            check_name(name)

    def to_json(self) -> str:
        """The text of job.json: the same job gives the same text."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, sort_keys=True)

    @property
    def digest(self) -> str:
        """SHA-256 of job.json. It covers the bytes of every file, through their hashes."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write `folder/job.json`, whole or not at all."""
        write_whole(folder / JOB, self.to_json())

    @classmethod
    def load(cls, folder: Path) -> Job:
        """Read `folder/job.json`. The files it names are not opened.

        Raises:
            FormatError: missing, damaged, or of another schema.
        """
        raw = read_versioned(folder / JOB, SCHEMA)
        try:
            raw["artefact"] = File(**raw["artefact"])
            raw["options"] = Options(**{**raw["options"], "batches": tuple(raw["options"]["batches"])})
            raw["inputs"] = {name: File(**file) for name, file in raw["inputs"].items()}
            raw["latency"] = LatencyPlan(**{**raw["latency"], "batches": tuple(raw["latency"]["batches"])})
            watch: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in raw["watch"].items()}
            raw["watch"] = Watch(**watch)
            return cls(**raw)
        except (KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"{folder / JOB} is damaged: {error}") from error


def make_job(
    folder: Path,
    *,
    flavour: str,
    runtime: str,
    artefact: Path,
    options: Options,
    images: Mapping[str, NDArray[np.uint8]],
    latency: LatencyPlan,
    infer_batch: int = INFER_BATCH,
    seed: int = 0,
    silence_limit_s: float = SILENCE_LIMIT_S,
) -> Job:
    """Lay out a job folder: copy the artefact, write each image set to `inputs/NAME.npy`. `devices.run.run_job` sends it.

    Args:
        folder: made where it does not exist.
        artefact: the model file.
        images: name -> uint8 (n, height, width, channels), at least one image each.
        flavour, runtime, options, latency, infer_batch, seed, silence_limit_s: as in `Job`.

    Raises:
        FormatError: another dtype or shape of images, an empty set, or a value that cannot be.
    """
    for name, array in images.items():
        check_name(name)
        check_images(name, array)
    (folder / "inputs").mkdir(parents=True, exist_ok=True)
    model = f"model{artefact.suffix}"
    shutil.copyfile(artefact, folder / model)
    for name, array in images.items():
        np.save(folder / "inputs" / f"{name}.npy", np.ascontiguousarray(array))
    return Job(
        flavour=flavour,
        runtime=runtime,
        artefact=File.of(folder, model),
        options=options,
        inputs={name: File.of(folder, f"inputs/{name}.npy") for name in images},
        latency=latency,
        infer_batch=infer_batch,
        seed=seed,
        silence_limit_s=silence_limit_s,
    )


def check_name(name: str) -> None:
    """Raise `FormatError` unless an input set's name can be a file name."""
    if not _NAME.fullmatch(name):
        raise FormatError(f"input set name {name!r} cannot be a file name; use letters, digits and . _ + -")


def check_images(name: str, images: NDArray[Any]) -> None:
    """Raise `FormatError` unless `images` is uint8 (n, height, width, channels) with n >= 1."""
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) == 0:
        raise FormatError(f"input set '{name}' is {images.dtype} {images.shape}; expected uint8 (n, height, width, channels), n >= 1")


def read_versioned(path: Path, schema: int) -> dict[str, Any]:
    """Read a JSON object whose `schema` must be this one; returned without it.

    Raises:
        FormatError: missing, not a JSON object, or of another schema.
    """
    try:
        if (size := path.stat().st_size) > _MOST_JSON_BYTES:
            raise ValueError(f"it has {size} bytes; at most {_MOST_JSON_BYTES} are read")
        raw = read_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise FormatError(f"cannot read {path}: {error}") from error
    found = raw.pop("schema", None) if isinstance(raw, dict) else type(raw).__name__
    if type(found) is not int or found != schema:
        raise FormatError(f"{path} has schema {found!r}; this version reads schema {schema}. Use the version that wrote it.")
    return dict(raw)
