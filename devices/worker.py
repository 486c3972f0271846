"""The worker: `python worker.pyz JOB_FOLDER` runs one job in this process, leaves `result/` in its folder, prints progress as JSON lines.

It needs the Python of the device (>= 3.10), numpy and the runtime that the job names; nothing else is imported.
Whatever the runtime raises becomes the result's status. What kills the process is seen from outside, by `devices.run`.
"""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.beside import Beside
from devices.engines import Engine, NotRunError, RefusedError, make_engine
from devices.environment import describe_machine, resident_bytes
from devices.files import sha256_file
from devices.job import JOB, FormatError, Job, check_images
from devices.loadgen import Drive, drive
from devices.peaks import SECONDS, cpu_peaks
from devices.result import LOADGEN, Checks, Result, Timing
from devices.timing import Stopwatch, make_clock, repeated_to_fresh

Tell = Callable[[str, int, int], None]
Images = NDArray[np.uint8]
Floats = NDArray[np.float32]

FRESH = 16  # different inputs fed in turn while timing
REPEATS = 3
LOADGEN_IMAGES = 256  # LoadGen keeps them in memory
LOGIT_TOLERANCE = 1e-3  # of the largest logit; a batch size may sum in another order
OPTIMISED_GRAPH = "optimised.onnx"
SIMULATED_BASELINE_BYTES, SIMULATED_PEAK_BYTES = 32 << 20, 64 << 20


def main(arguments: list[str]) -> int:
    """Run the job in the folder `arguments[0]`. Exit code 0 means that a result was left there, whatever its status."""
    folder = Path(arguments[0])
    result = work(folder, tell)
    tell("done", 1, 1)
    result.save(folder)
    return 0


def tell(step: str, done: int, total: int) -> None:
    """Print progress. Where nobody listens any more, the harness was killed: stop, and leave no result."""
    try:
        print(json.dumps({"step": step, "done": done, "total": total}), flush=True)
    except BrokenPipeError:
        os._exit(1)


def work(folder: Path, tell: Tell) -> Result:
    """Run the job in `folder`; a failure that Python can see is a result too."""
    result = Result(sha256_file(folder / JOB), "refused")
    try:
        job = Job.load(folder)
        result = replace(result, simulated=job.simulated_clock, environment=describe_machine() | {"threads": job.options.threads})
        with Beside(job) as beside:
            return _run(job, folder, tell, result, beside)
    except NotRunError as error:
        return replace(result, status="built", error=_one_line(error))
    except (FormatError, RefusedError) as error:
        return replace(result, error=_one_line(error))
    except Exception as error:  # noqa: BLE001 - whatever the runtime raises is this engine's result
        return replace(result, status="crashed", error=f"{type(error).__name__}: {_one_line(error)}")


def _run(job: Job, folder: Path, tell: Tell, result: Result, beside: Beside) -> Result:
    tell("load", 0, 1)
    artefact = job.artefact.verify(folder)
    sets = {name: _open_images(name, file.verify(folder)) for name, file in sorted(job.inputs.items())}
    timed = sets[job.latency.input]
    batches = _timed_batches(timed, job.latency.batches)
    beside.begin()
    clock = make_clock(job.simulated_clock, job.seed)

    baseline = resident_bytes(peak=False)
    engine = make_engine(job.runtime)
    start = clock()
    loaded = engine.load(artefact, job.options)
    load_ns = clock() - start
    tell("load", 1, 1)

    clocks = {size: make_clock(job.simulated_clock, job.seed, size) for size in sorted(batches)}
    watches = {size: Stopwatch(engine.infer, batches[size], clocks[size], loaded.parts) for size in clocks}
    timings = _time(job, watches, tell, beside)
    memory = _memory(job, baseline, resident_bytes(peak=True))
    telemetry = beside.stop()
    driven = _drive(job, engine, timed, folder, tell)
    outputs = {name: _classify(engine, images, job.infer_batch, name, tell) for name, images in sets.items()}
    result = replace(
        result,
        status="ok",
        runtime_version=loaded.version,
        options=loaded.options,
        environment=result.environment | beside.machine(),
        load_ns=load_ns - loaded.build_ns,
        baseline_bytes=memory[0],
        peak_bytes=memory[1],
        device_bytes=loaded.device_bytes,
        outputs=outputs,
        timings=timings,
        before=beside.before,
        after=beside.after(),
        telemetry=telemetry,
        loadgen=driven,
    )
    if (bad := _not_finite(outputs)) is not None:
        return replace(result, status="nan", error=bad)
    tell("audit", 0, 1)
    checks = _audit(job, engine, timed, outputs[job.latency.input], watches)
    engine.close()
    graph, graph_equal = _save_graph(job, folder, artefact, timed, outputs[job.latency.input])
    tell("peaks", 0, 1)
    return replace(result, checks=replace(checks, graph_equal=graph_equal), optimised_graph=graph, peaks=_peaks(job))


def _open_images(name: str, path: Path) -> Images:
    """The set, left on disk until it is read: it must not weigh in the engine's memory."""
    images: Images = np.load(path, mmap_mode="r", allow_pickle=False)
    check_images(name, images)
    return images


def to_input(images: Images) -> Floats:
    """uint8 (n, h, w, c) -> float32 (n, c, h, w) in [0, 1], C-contiguous: the same division as the twin's."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)


def _timed_batches(images: Images, sizes: tuple[int, ...]) -> dict[int, list[Floats]]:
    """For each batch size, `FRESH` different inputs: views into one pool, each starting one image later."""
    pool = to_input(images[np.arange(max(sizes, default=1) + FRESH - 1) % len(images)])
    return {size: [pool[first : first + size] for first in range(FRESH)] for size in sizes}


def _time(job: Job, watches: dict[int, Stopwatch], tell: Tell, beside: Beside) -> dict[int, Timing]:
    """The cold call of every batch size, smallest first, then each size in random order: cooling, warm-up and measurement."""
    plan = job.latency
    first_ns = {size: watch.first() for size, watch in watches.items()}
    order = list(watches)
    random.Random(job.seed).shuffle(order)  # noqa: S311 - an order, no secret
    timings = {}
    gc.collect()
    gc.disable()
    for size in order:
        beside.cool(tell)
        warmup, stable = watches[size].warm_up(
            plan.warmup_floor_s, plan.warmup_cap_s, _seconds(tell, f"warm-up, batch {size}", plan.warmup_cap_s)
        )
        latency = watches[size].measure(plan.measure_s, _seconds(tell, f"latency, batch {size}", plan.measure_s))
        parts = {name: np.array(values, np.int64) for name, values in watches[size].parts.items()}
        starts = np.array(watches[size].starts, np.int64)
        timings[size] = Timing(np.array(latency, np.int64), np.array(warmup, np.int64), first_ns[size], stable, parts, starts)
    gc.enable()
    return timings


def _drive(job: Job, engine: Engine, images: Images, folder: Path, tell: Tell) -> Drive | None:
    """Let MLPerf LoadGen drive the engine, where the job asks for it; its logs stay in `folder`."""
    plan = job.latency
    if not plan.scenario:
        return None
    shutil.rmtree(folder / LOADGEN, ignore_errors=True)
    start = spoken = time.monotonic()
    least_ms = round(plan.measure_s * 1e3)

    def told(_: int) -> None:
        nonlocal spoken
        if time.monotonic() - spoken >= 1:
            spoken = time.monotonic()
            spent_ms = round((spoken - start) * 1e3)  # LoadGen may take much longer than its least duration
            tell(f"LoadGen {plan.scenario}", spent_ms, max(spent_ms, least_ms))

    return drive(engine.infer, to_input(images[:LOADGEN_IMAGES]), plan.scenario, plan.measure_s, folder / LOADGEN, told)


def _seconds(tell: Tell, step: str, limit_s: float) -> Callable[[float], None]:
    """Progress of a step that lasts `limit_s`, told in milliseconds."""
    total = round(limit_s * 1e3)
    return lambda spent_s: tell(step, min(round(spent_s * 1e3), total), total)


def _memory(job: Job, baseline: int | None, peak: int | None) -> tuple[int | None, int | None]:
    """Bytes before the runtime was imported, and the peak above them."""
    if job.simulated_clock:
        return SIMULATED_BASELINE_BYTES, SIMULATED_PEAK_BYTES
    return baseline, None if peak is None or baseline is None else peak - baseline


def _classify(engine: Engine, images: Images, batch: int, name: str, tell: Tell) -> Floats:
    """Logits of a whole set, untimed."""
    parts = []
    for first in range(0, len(images), batch):
        chunk = images[first : first + batch]
        logits = engine.infer(to_input(chunk))
        if logits.ndim != 2 or len(logits) != len(chunk):
            raise RefusedError(f"the output for {len(chunk)} images has shape {logits.shape}; expected logits ({len(chunk)}, classes)")
        parts.append(np.asarray(logits, np.float32))
        tell(f"inference, {name}", first + len(chunk), len(images))
    return np.concatenate(parts)


def _not_finite(outputs: dict[str, Floats]) -> str | None:
    for name, logits in outputs.items():
        bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if len(bad):
            return (
                f"{len(bad)} of {len(logits)} images of '{name}' give logits that are not finite, the first at index {bad[0]}: "
                f"an overflow in low precision, or NaN in the weights. Compare with the fp32 flavour."
            )
    return None


def _audit(job: Job, engine: Engine, images: Images, logits: Floats, watches: dict[int, Stopwatch]) -> Checks:
    """Hold the measurement against itself; see `Checks`."""
    error = max((_timed_error(watch, size, logits) for size, watch in watches.items()), default=None)
    head = to_input(images[: job.infer_batch])
    passes = [engine.infer(head) for _ in range(REPEATS)]
    small = _timed_batches(images, (1,))[1]
    return Checks(
        timed_outputs_equal_accuracy_outputs=None if error is None else error <= LOGIT_TOLERANCE * float(np.abs(logits).max()),
        timed_max_logit_error=error,
        repeated_to_fresh_latency=repeated_to_fresh(engine.infer, small, make_clock(job.simulated_clock, job.seed, 1)) if watches else None,
        deterministic=all(np.array_equal(once, passes[0]) for once in passes),
        repeats=REPEATS,
        graph_equal=None,
    )


def _timed_error(watch: Stopwatch, size: int, logits: Floats) -> float:
    """Largest difference between the answers to timed calls and the untimed pass over the same images."""
    return max(
        float(np.abs(answer - logits[np.arange(first, first + size) % len(logits)]).max()) for first, answer in watch.answers.items()
    )


def _save_graph(job: Job, folder: Path, artefact: Path, images: Images, logits: Floats) -> tuple[str | None, bool | None]:
    """Save the graph that the runtime runs, from a second session: writing it in the measured one would cost it time and memory.

    Returns:
        the file's name in `folder`, and whether the second session gave the same bits; None, None for a runtime that has no graph to show.
    """
    path = folder / OPTIMISED_GRAPH
    for stale in folder.glob(f"{path.stem}.*"):
        stale.unlink()
    engine = make_engine(job.runtime)
    engine.load(artefact, job.options, path)
    again = engine.infer(to_input(images[: job.infer_batch]))
    engine.close()
    written = next(folder.glob(f"{path.stem}.*"), None)
    return (written.name, np.array_equal(again, logits[: job.infer_batch])) if written else (None, None)


def _peaks(job: Job) -> dict[str, Any]:
    """What this CPU reaches, where it was timed; an accelerator's peaks are in its profile."""
    if job.runtime != "onnxruntime" or job.simulated_clock or not job.latency.batches:
        return {}
    return cpu_peaks(job.options.threads, min(SECONDS, job.latency.measure_s / 8))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
