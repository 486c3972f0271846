"""A result: what comes back from a device. Raw values; nothing is summarised here. numpy and the standard library only, Python >= 3.10.

On disk, the folder `result/`: `result.json`, `outputs/NAME.npy`, `timings/bN.npz`, `telemetry.npz`, LoadGen's logs,
and the runtime's optimised graph.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from devices.arrays import read_npy, read_npz
from devices.files import write_whole
from devices.job import File, FormatError, read_versioned
from devices.loadgen import SUMMARY, Drive
from devices.plain import cleaned
from devices.rules import check_result
from devices.telemetry.series import Telemetry, read_arrays

# History of result.json: 1 - first; 2 - parts of a call, device_bytes, peaks; 3 - starts of the calls, states, telemetry; 4 - loadgen.
SCHEMA = 4
RESULT = "result"
Status = Literal["ok", "crashed", "hung", "nan", "refused", "built"]
STATUSES: tuple[Status, ...] = get_args(Status)

TELEMETRY = "telemetry.npz"
LOADGEN = "loadgen"

_FILE = "result.json"


@dataclass(frozen=True, eq=False)
class Timing:
    """Every call at one batch size, in nanoseconds. The calls before the measurement are kept too.

    Attributes:
        latency_ns: int64 (n,), the measured calls in order.
        warmup_ns: int64 (m,), the calls of the warm-up.
        first_ns: the first call at this batch size after loading. For the smallest batch it is the first call of all.
        stable: whether three windows agreed before the warm-up's cap.
        parts_ns: part of a call (`host_to_device`, `compute`, `device_to_host`) -> int64 (n,), by the device's own events; empty where
            the engine has no memory of its own.
        start_ns: int64 (n,), when each measured call began, on the clock of the telemetry; empty where that is not known.
    """

    latency_ns: NDArray[np.int64]
    warmup_ns: NDArray[np.int64]
    first_ns: int
    stable: bool
    parts_ns: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    start_ns: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


@dataclass(frozen=True)
class Checks:
    """The measurement audits itself, after MLPerf's compliance tests (TEST01: timed outputs are right; TEST04: no caching).

    Where nothing was timed, the first three are None.

    Attributes:
        timed_outputs_equal_accuracy_outputs: the logits of timed calls are those of the untimed pass, within 0.1 % of the largest logit
            (another batch size may sum in another order).
        timed_max_logit_error: the largest difference between the two.
        repeated_to_fresh_latency: of one input repeated / of inputs in turn, interleaved, fastest calls. Well below 1: answers are cached.
        deterministic: `repeats` passes over the same images gave the same bits.
        graph_equal: the session whose optimised graph was saved gives the same bits as the measured one; None without a graph.
    """

    timed_outputs_equal_accuracy_outputs: bool | None
    timed_max_logit_error: float | None
    repeated_to_fresh_latency: float | None
    deterministic: bool
    repeats: int
    graph_equal: bool | None


@dataclass(frozen=True, eq=False)
class Result:
    """What one job gave. Where `status` is neither `ok` nor `nan`, the measured parts are absent.

    Attributes:
        job_sha256: the digest of the job that was run.
        status: `ok`; `nan` (everything ran, but logits are not finite); `refused` (hash, schema, runtime or model not acceptable);
            `crashed`; `hung`; `built` (ahead of time, with nothing here to run it on).
        error: one line that says what happened and what to do, None where `ok`.
        runtime_version: of the runtime.
        options: every option as the runtime has it.
        environment: what the device looked like (see `devices.environment`).
        simulated: the clock and the memory are made up.
        load_ns: loading the artefact, without importing the runtime.
        baseline_bytes: resident set before the runtime was imported.
        peak_bytes: peak resident set until the last timed call, less the baseline.
        device_bytes: what the engine took of the accelerator's memory, None where it has none.
        peaks: what the processor reaches at most, see `devices.peaks`; empty where it was not measured.
        outputs: input set -> logits, float32 (n, classes).
        timings: batch size -> calls.
        checks: None unless `ok`.
        optimised_graph: file name in the result folder of the graph that the runtime really ran, None where it has none to show.
        before, after: the state of the device (see `devices.observed`), before anything was loaded and after everything was measured.
        telemetry: what was sampled beside the timing; None where nothing was.
        loadgen: what MLPerf LoadGen says of its run; its logs are in `loadgen/`. None where it did not drive the engine.
    """

    job_sha256: str
    status: Status
    error: str | None = None
    runtime_version: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    simulated: bool = False
    load_ns: int | None = None
    baseline_bytes: int | None = None
    peak_bytes: int | None = None
    device_bytes: int | None = None
    peaks: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    timings: dict[int, Timing] = field(default_factory=dict)
    checks: Checks | None = None
    optimised_graph: str | None = None
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    telemetry: Telemetry | None = None
    loadgen: Drive | None = None

    def save(self, folder: Path) -> None:
        """Put this result in place as `folder/result`, whole or not at all, replacing one that is there.

        The optimised graph and LoadGen's logs, if any, are moved in from `folder`.
        """
        temporary = folder / f"{RESULT}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        (temporary / "outputs").mkdir(parents=True)
        (temporary / "timings").mkdir()
        for name, logits in self.outputs.items():
            np.save(temporary / "outputs" / f"{name}.npy", logits)
        for batch, timing in self.timings.items():
            with (temporary / "timings" / f"b{batch}.npz").open("wb") as file:
                np.savez(file, **timing_arrays(timing))
        if self.telemetry is not None:
            with (temporary / TELEMETRY).open("wb") as file:
                arrays: dict[str, Any] = self.telemetry.arrays()
                np.savez_compressed(file, **arrays)
        if self.optimised_graph is not None:
            (folder / self.optimised_graph).replace(temporary / self.optimised_graph)
        if self.loadgen is not None:
            (folder / LOADGEN).replace(temporary / LOADGEN)
        write_whole(temporary / _FILE, self._to_json(temporary))
        shutil.rmtree(folder / RESULT, ignore_errors=True)
        temporary.replace(folder / RESULT)

    def _to_json(self, folder: Path) -> str:
        graph = self.optimised_graph
        raw = {
            **{name: getattr(self, name) for name in _PLAIN},
            "schema": SCHEMA,
            "checks": asdict(self.checks) if self.checks else None,
            "outputs": {name: asdict(File.of(folder, f"outputs/{name}.npy")) for name in self.outputs},
            "timings": {
                str(batch): {**asdict(File.of(folder, f"timings/b{batch}.npz")), "stable": timing.stable}
                for batch, timing in self.timings.items()
            },
            "optimised_graph": asdict(File.of(folder, graph)) if graph else None,
            "telemetry": self._telemetry(folder),
            "loadgen": self._loadgen(folder),
        }
        return json.dumps(raw, indent=1, sort_keys=True, allow_nan=False)

    def _telemetry(self, folder: Path) -> dict[str, Any] | None:
        told = self.telemetry
        if told is None:
            return None
        return {
            **asdict(File.of(folder, TELEMETRY)),
            "period_ms": told.period_ms,
            "cpu_share": told.cpu_share,
            "idle_ns": told.idle_ns,
            "absent": told.absent,
        }

    def _loadgen(self, folder: Path) -> dict[str, Any] | None:
        if self.loadgen is None:
            return None
        logs = [asdict(File.of(folder, f"{LOADGEN}/{path.name}")) for path in sorted((folder / LOADGEN).iterdir())]
        return {**asdict(self.loadgen), "logs": logs}

    @classmethod
    def load(cls, folder: Path) -> Result:
        """Read `folder/result`, check every file against its hash and every part against `devices.rules`.

        Raises:
            FormatError: missing, damaged, changed, of another schema, or not what a result may hold.
        """
        inside = folder / RESULT
        raw = cleaned(read_versioned(inside / _FILE, SCHEMA))
        try:
            result = cls._from_json(inside, raw)
            check_result(result)
        except FormatError:
            raise
        except Exception as error:
            raise FormatError(f"{inside / _FILE} is damaged: {type(error).__name__}: {error}") from error
        return result

    @classmethod
    def _from_json(cls, inside: Path, raw: dict[str, Any]) -> Result:
        if raw.get("status") not in STATUSES:
            raise FormatError(f"{inside / _FILE} has status {raw.get('status')!r}; expected one of {', '.join(STATUSES)}")
        graph = raw.pop("optimised_graph")
        if graph is not None:
            File(**graph).verify(inside)
        checks, telemetry, loadgen = raw.pop("checks"), raw.pop("telemetry"), raw.pop("loadgen")
        for log in _logs(loadgen.pop("logs")) if loadgen else ():
            log.verify(inside)
        return cls(
            checks=Checks(**checks) if checks is not None else None,
            outputs={name: _load_logits(inside, name, **file) for name, file in raw.pop("outputs").items()},
            timings={int(batch): _load_timing(inside, batch, **timing) for batch, timing in raw.pop("timings").items()},
            optimised_graph=graph["path"] if graph is not None else None,
            telemetry=_load_telemetry(inside, **telemetry) if telemetry is not None else None,
            loadgen=Drive(**loadgen) if loadgen is not None else None,
            **raw,
        )


_PLAIN = (
    "job_sha256", "status", "error", "runtime_version", "options", "environment", "simulated", "load_ns", "baseline_bytes", "peak_bytes",
    "device_bytes", "peaks", "before", "after",
)  # fmt: skip
_PART = "_part_ns"


def timing_arrays(timing: Timing) -> dict[str, Any]:
    """A timing as the arrays of its .npz file: `latency_ns`, `start_ns`, `warmup_ns`, `first_ns`, and `NAME_part_ns` for each part."""
    parts = {f"{name}{_PART}": values for name, values in timing.parts_ns.items()}
    first = np.int64(timing.first_ns)
    return {"latency_ns": timing.latency_ns, "start_ns": timing.start_ns, "warmup_ns": timing.warmup_ns, "first_ns": first, **parts}


def _logs(listed: list[dict[str, str]]) -> list[File]:
    """LoadGen's logs, of which there is its summary at least."""
    logs = [File(**log) for log in listed]
    if f"{LOADGEN}/{SUMMARY}" not in {log.path for log in logs} or not all(log.path.startswith(f"{LOADGEN}/") for log in logs):
        raise FormatError(f"{LOADGEN}/{SUMMARY} is not among the logs of LoadGen, or a log is elsewhere")
    return logs


def _load_logits(folder: Path, name: str, path: str, sha256: str) -> NDArray[np.float32]:
    _same(path, f"outputs/{name}.npy")
    return read_npy(File(path, sha256).verify(folder))


def _load_timing(folder: Path, batch: str, path: str, sha256: str, stable: bool) -> Timing:
    _same(path, f"timings/b{int(batch)}.npz")
    arrays = read_npz(File(path, sha256).verify(folder))
    first = arrays["first_ns"]
    if first.dtype != np.int64 or first.shape:
        raise FormatError(f"{path}: first_ns is {first.dtype} {first.shape}; expected one int64")
    parts = {name.removesuffix(_PART): arrays[name] for name in arrays if name.endswith(_PART)}
    return Timing(arrays["latency_ns"], arrays["warmup_ns"], int(first), stable, parts, arrays["start_ns"])


def _load_telemetry(
    folder: Path, path: str, sha256: str, period_ms: int, cpu_share: float, idle_ns: list[int], absent: dict[str, str]
) -> Telemetry:
    _same(path, TELEMETRY)
    begin, end = map(int, idle_ns)
    return Telemetry(period_ms, cpu_share, (begin, end), read_arrays(read_npz(File(path, sha256).verify(folder))), absent)


def _same(path: str, expected: str) -> None:
    if path != expected:
        raise FormatError(f"a file is said to be {str(path)[:80]!r}; expected {expected}")
