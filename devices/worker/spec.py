"""What goes out to a device for one engine: a folder with `engine.json` and the artefact. numpy and the standard library, Python >= 3.10.

Images and questions do not stand here: they go over the session (see `devices.worker.serve`).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from devices.worker.files import sha256_file, write_whole

SPEC = "engine.json"
SCHEMA = 1  # history of engine.json: 1 - first
BATCH = 32
FRESH = 16  # different inputs that timed calls take in turn


class FormatError(ValueError):
    """A job or result that is damaged, of an unknown version, or that asks for something impossible."""


@dataclass(frozen=True)
class File:
    """A file of a job or a result: `path` is relative to its folder, `sha256` is that of its bytes."""

    path: str
    sha256: str

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
class RuntimeOptions:
    """What the runtime is told. Unset is not an option: every figure depends on these.

    Attributes:
        input_name, output_name: the model's one input and the output that holds the logits.
        threads: that compute one call.
        graph_optimisation: `disabled`, `basic`, `extended` or `all`.
        session_config: further entries of the runtime's own configuration, e.g. {"session.x64quantprecision": "1"}.
        batches: smallest, usual and largest batch, for a runtime that builds its engine for them.
        sparse: the weights are 2:4 sparse, so that a runtime may choose kernels that use it.
        build: which of several builds of one artefact, for a runtime whose builder is not deterministic.
    """

    input_name: str
    output_name: str
    threads: int
    graph_optimisation: str = "all"
    session_config: dict[str, str] = field(default_factory=dict)
    batches: tuple[int, int, int] = (1, 8, 32)
    sparse: bool = False
    build: int = 0


@dataclass(frozen=True)
class Watch:
    """What is observed of the device beside the job; see `devices.host.profile`, where each of these is declared.

    Attributes:
        providers: keys of `devices.worker.telemetry.PROVIDERS`, sampled every `period_ms` beside the timing.
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
class EngineSpec:
    """One artefact for one runtime.

    Attributes:
        flavour: of the artefact; only for messages.
        runtime: a key of `devices.worker.engines.ENGINES`.
        artefact: the model file.
        options: what the runtime is told.
        shape: height, width, channels of an image.
        batch: images in a call where nothing is timed.
        build: number of this build of the engine; another number is built anew.
        seed: of the synthetic clock.
        device: name of the device's profile.
        synthetic_clock: no real time is read.
        timed: it will be measured, so the device is watched beside it.
        watch: what is watched.

    Raises:
        FormatError: a value that cannot be.
    """

    flavour: str
    runtime: str
    artefact: File
    options: RuntimeOptions
    shape: tuple[int, int, int]
    batch: int = BATCH
    build: int = 0
    seed: int = 0
    device: str = ""
    synthetic_clock: bool = False
    timed: bool = True
    watch: Watch = Watch()

    def __post_init__(self) -> None:
        counts = {
            "threads": self.options.threads,
            "batch": self.batch,
            **dict(zip(("height", "width", "channels"), self.shape, strict=True)),
        }
        for name, count in counts.items():
            if not isinstance(count, int) or count < 1:
                raise FormatError(f"{name} is {count!r}; expected a whole number, 1 or more")

    def save(self, folder: Path) -> None:
        """Write `folder/engine.json`, whole or not at all."""
        write_whole(folder / SPEC, json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, sort_keys=True))

    @classmethod
    def load(cls, folder: Path) -> EngineSpec:
        """Read `folder/engine.json`. The artefact is not opened.

        Raises:
            FormatError: missing, damaged, or of another schema.
        """
        raw = read_versioned(folder / SPEC, SCHEMA)
        try:
            options = raw.pop("options")
            watch: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in raw.pop("watch").items()}
            return cls(
                artefact=File(**raw.pop("artefact")),
                options=RuntimeOptions(**{**options, "batches": tuple(options["batches"])}),
                shape=tuple(raw.pop("shape")),
                watch=Watch(**watch),
                **raw,
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise FormatError(f"{folder / SPEC} is damaged: {error}") from error


def lay_out(folder: Path, artefact: Path) -> File:
    """Copy an artefact into the folder that will travel; its bytes keep their hash, its name becomes `model` with the same suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"model{artefact.suffix}"
    shutil.copyfile(artefact, folder / name)
    return File.of(folder, name)


def read_versioned(path: Path, schema: int) -> dict[str, Any]:
    """Read a JSON object whose `schema` must be this one; returned without it.

    Raises:
        FormatError: missing, not a JSON object, or of another schema.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(f"cannot read {path}: {error}") from error
    found = raw.pop("schema", None) if isinstance(raw, dict) else type(raw).__name__
    if found != schema:
        raise FormatError(f"{path} has schema {found!r}; this version reads schema {schema}. Use the version that wrote it.")
    return dict(raw)
