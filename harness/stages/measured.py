"""What is kept of each engine that was measured: checked as it comes from the device, stored, and read back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from devices.host.arrays import read_npz
from devices.host.rounds import Timing
from devices.host.rules import Environment, State, check_fields, check_peaks, check_telemetry
from devices.host.session import EngineError
from devices.worker.files import write_whole
from devices.worker.plain import printable, read_json
from devices.worker.spec import FormatError
from devices.worker.telemetry.series import Telemetry, read_arrays
from harness.errors import NO_ARRAYS, UntrustedError
from harness.measurement.facts import Facts, Information, Sampled
from harness.stages.engines import Engine

MEASURED = "measured"  # folder of raw results in a run
FACTS = "facts.json"
TELEMETRY = "telemetry.npz"
LOADGEN = "loadgen"

Kept = tuple[Facts, dict[int, Timing], dict[str, bytes]]


@dataclass(frozen=True, eq=False)
class Measured:
    """One engine's raw results. `folder` holds its files.

    Attributes:
        timings: batch size -> calls.
        telemetry: what was sampled beside the timing; None where nothing was.
    """

    engine: Engine
    facts: Facts
    folder: Path
    timings: dict[int, Timing] = field(default_factory=dict)
    telemetry: Telemetry | None = None

    @property
    def ok(self) -> bool:
        """Whether it answers and was measured."""
        return self.facts.status == "ok"


def check(kept: Kept, place: Path, engine: Engine) -> None:
    """Raise FormatError or EngineError unless what came from the device is of the right form."""
    facts, _, files = kept
    check_fields("environment", facts.environment, Environment)
    check_fields("before", facts.before, State)
    check_fields("after", facts.after, State)
    check_peaks(facts.peaks)
    for name in files:
        safe_name(name)
    if engine.runtime == "tensorrt" and not engine.simulated and facts.graph is not None:  # a simulated one leaves an ONNX graph
        information(files[facts.graph])
    if facts.sampled is not None:
        place.mkdir(parents=True, exist_ok=True)
        (place / TELEMETRY).write_bytes(files[TELEMETRY])
        _telemetry(facts.sampled, place)


def information(raw: bytes) -> Information:
    """What a TensorRT engine says of itself. Raises FormatError: not of the right form."""
    try:
        return Information.model_validate(read_json(raw))
    except ValueError as error:
        raise FormatError(f"the engine information is damaged: {printable(str(error))}") from error


def save(kept: Kept, place: Path) -> None:
    """Keep one engine's results; the facts come last, so that what is there is whole."""
    facts, timings, files = kept
    place.mkdir(parents=True, exist_ok=True)
    for batch, timing in timings.items():
        with (place / f"b{batch}.npz").open("wb") as file:
            np.savez_compressed(file, **timing_arrays(timing))
    for name, raw in files.items():
        path = place / safe_name(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(raw)
    write_whole(place / FACTS, facts.model_dump_json(indent=1))


def safe_name(name: str) -> str:
    """A file's name from a device, which may not leave its folder.

    Raises:
        EngineError: it could.
    """
    parts = name.split("/")
    if len(parts) > 2 or any(
        not part or part.startswith(".") or not part.replace("-", "_").replace(".", "_").isidentifier() for part in parts
    ):
        raise EngineError("crashed", f"it offers a file named {name[:60]!r}, which is refused")
    return name


def load(engine: Engine, place: Path) -> Measured:
    """What was kept of one engine.

    Raises:
        UntrustedError: missing or damaged.
    """
    try:
        facts = Facts.model_validate_json((place / FACTS).read_bytes())
        timings = {batch: _read_timing(place / f"b{batch}.npz", stable) for batch, stable in facts.stable.items()}
        telemetry = None
        if facts.sampled is not None:
            telemetry = _telemetry(facts.sampled, place)
    except (OSError, *NO_ARRAYS) as error:
        raise UntrustedError(f"the measurement of {engine.name} in {place} is missing or damaged: {error}. Run again.") from error
    return Measured(engine, facts, place, timings, telemetry)


def _telemetry(sampled: Sampled, place: Path) -> Telemetry:
    """The samples that came from the device. Raises FormatError, a ValueError: not of the right form."""
    series = read_arrays(read_npz(place / TELEMETRY))
    telemetry = Telemetry(sampled.period_ms, sampled.cpu_share, (sampled.idle_ns[0], sampled.idle_ns[1]), series, sampled.absent)
    check_telemetry(telemetry)
    return telemetry


def timing_arrays(timing: Timing) -> dict[str, Any]:
    """A timing as the arrays of its .npz file, and `NAME_part_ns` for each part of a call."""
    parts = {f"{name}_part_ns": values for name, values in timing.parts_ns.items()}
    return {"latency_ns": timing.latency_ns, "round": timing.round, "start_ns": timing.start_ns, "warmup_ns": timing.warmup_ns, **parts}


def _read_timing(path: Path, stable: bool) -> Timing:
    with np.load(path, allow_pickle=False) as arrays:
        parts = {name.removesuffix("_part_ns"): arrays[name] for name in arrays.files if name.endswith("_part_ns")}
        return Timing(arrays["latency_ns"], arrays["round"], arrays["warmup_ns"], stable, parts, arrays["start_ns"])
