"""MLPerf LoadGen as the driver of an engine: SingleStream or Offline, its own logs and its own word on whether the run is valid.

The binding (`pip install mlcommons-loadgen`) is imported when it is used. Source: mlcommons/inference, loadgen/README.md.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.worker.engines import RefusedError

SUMMARY = "mlperf_log_summary.txt"
PACKAGE = "mlperf_loadgen"
INSTALL = "pip install mlcommons-loadgen"
OFFLINE_BATCH = 32
HEADROOM = 1.3  # a query that ends before the shortest duration is INVALID
RATE_CALLS = 3  # the first is slow
MIN_QUERIES = {"SingleStream": 64, "Offline": 1}  # scenario -> at least

Infer = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Drive:
    """What LoadGen says of one run.

    Attributes:
        window_ns: when it asked the engine, begin and end, by the clock of the samples beside it.
        scenario: one of `MIN_QUERIES`.
        valid: LoadGen's verdict on its own run.
        figures: its summary, name -> value as text, such as "90th percentile latency (ns)" or "Samples per second".
    """

    window_ns: tuple[int, int]
    scenario: str
    valid: bool
    figures: dict[str, str]


def drive(
    infer: Infer, pool: NDArray[np.float32], scenario: str, seconds: float, logs: Path, progress: Callable[[int], None] = lambda _: None
) -> Drive:
    """Let LoadGen ask an engine for answers.

    Args:
        infer: images (n, c, h, w) -> logits (n, classes), blocking.
        pool: the images asked for, float32 (n, c, h, w).
        scenario: SingleStream: one image after the other; Offline: all at once, taken `OFFLINE_BATCH` at a time.
        seconds: the shortest duration that LoadGen accepts as valid here. MLPerf itself asks for 600.
        logs: folder for LoadGen's files; is made.
        progress: called with the number of images answered, after every call.

    Raises:
        RefusedError: the binding is missing, or LoadGen left no summary.
    """
    try:
        import mlperf_loadgen as lg
    except ImportError as error:
        raise RefusedError(f"--scenario {scenario} needs MLPerf LoadGen on the device: {INSTALL}") from error
    logs.mkdir(parents=True, exist_ok=True)
    failed: list[Exception] = []

    size = 1 if scenario == "SingleStream" else OFFLINE_BATCH

    def issue(samples: list[Any]) -> None:
        for first in range(0, len(samples), size):
            part = samples[first : first + size]
            try:
                answers = np.ascontiguousarray(
                    infer(pool[[sample.index for sample in part]]) if not failed else np.zeros((len(part), 1), np.float32)
                )
            except Exception as error:  # noqa: BLE001 - LoadGen's threads must get their answers; raised again below
                failed.append(error)
                answers = np.zeros((len(part), 1), np.float32)
            progress(len(part))
            rows = [(sample.id, answers[i]) for i, sample in enumerate(part)]
            lg.QuerySamplesComplete([lg.QuerySampleResponse(key, row.ctypes.data, row.nbytes) for key, row in rows])

    sut = lg.ConstructSUT(issue, lambda: None)
    qsl = lg.ConstructQSL(len(pool), len(pool), lambda _: None, lambda _: None)
    settings, output = _settings(lg, scenario, seconds, rate(infer, pool, size)), _log_settings(lg, logs)
    begin = time.perf_counter_ns()
    try:
        lg.StartTestWithLogSettings(sut, qsl, settings, output)
    finally:
        end = time.perf_counter_ns()
        lg.DestroyQSL(qsl)
        lg.DestroySUT(sut)
    if failed:
        raise failed[0]
    return Drive((begin, end), scenario, *read_summary(logs / SUMMARY))


def read_summary(path: Path) -> tuple[bool, dict[str, str]]:
    """LoadGen's verdict and figures out of its summary.

    Raises:
        RefusedError: there is none, or it says neither VALID nor INVALID.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise RefusedError(f"LoadGen left no {path.name}: {error.strerror}") from error
    figures = {m[1].strip(): m[2].strip() for line in lines if (m := re.match(r"([^:=]+?)\s*[:=]\s(.+)", line))}
    verdict = figures.get("Result is")
    if verdict not in ("VALID", "INVALID"):
        raise RefusedError(f"{path.name} says neither VALID nor INVALID but {verdict!r}")
    return verdict == "VALID", figures


def rate(infer: Infer, pool: NDArray[np.float32], size: int) -> float:
    """Images per second of one batch of `size` after another: LoadGen makes its queries beforehand, and one that runs out is INVALID."""
    batch = pool[np.arange(size) % len(pool)]
    times = []
    for _ in range(RATE_CALLS):
        start = time.perf_counter()
        infer(batch)
        times.append(time.perf_counter() - start)
    return size / min(times)


def _settings(lg: Any, scenario: str, seconds: float, images_per_s: float) -> Any:
    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, scenario)
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = round(seconds * 1e3)
    settings.min_query_count = MIN_QUERIES[scenario]
    settings.offline_expected_qps = HEADROOM * images_per_s
    settings.single_stream_expected_latency_ns = max(round(1e9 / (HEADROOM * images_per_s)), 1)
    return settings


def _log_settings(lg: Any, logs: Path) -> Any:
    output = lg.LogOutputSettings()
    output.outdir = str(logs)
    output.copy_summary_to_stdout = False
    settings = lg.LogSettings()
    settings.log_output = output
    settings.enable_trace = False
    return settings
