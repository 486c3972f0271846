"""MLPerf LoadGen really drives an engine; its logs and its verdict come back with the result."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quick_engines import Linear, Said, some_images

from devices.worker.engines import RefusedError
from devices.worker.loadgen import MIN_QUERIES, SUMMARY, drive, read_summary

pytest.importorskip("mlperf_loadgen", reason="MLPerf LoadGen is not installed: pip install mlcommons-loadgen")

POOL = np.arange(8 * 3, dtype=np.float32).reshape(8, 3, 1, 1)
MILLISECOND_NS = 1_000_000


def slow(batch: np.ndarray) -> np.ndarray:
    """Two milliseconds for every image."""
    time.sleep(0.002 * len(batch))
    return batch[:, :, 0, 0]


def test_single_stream_sees_the_time_of_one_image(tmp_path: Path) -> None:
    told: list[int] = []
    seen = drive(slow, POOL, "SingleStream", 0.3, tmp_path / "logs", told.append)
    assert seen.valid and seen.scenario == "SingleStream"
    assert 2 * MILLISECOND_NS <= int(seen.figures["50.00 percentile latency (ns)"]) < 20 * MILLISECOND_NS
    assert set(told) == {1} and len(told) >= 64
    assert (tmp_path / "logs" / "mlperf_log_detail.txt").stat().st_size > 0


def test_offline_sees_the_throughput_of_batches_and_is_long_enough(tmp_path: Path) -> None:
    told: list[int] = []
    seen = drive(slow, POOL, "Offline", 0.3, tmp_path / "logs", told.append)
    assert seen.valid, seen.figures
    assert 50 < float(seen.figures["Samples per second"]) <= 500
    assert max(told) > 1


def test_what_the_engine_raises_is_raised_here(tmp_path: Path) -> None:
    calls = iter(range(100))

    def fails(batch: np.ndarray) -> np.ndarray:
        if next(calls) > 5:
            raise ValueError("the fan fell off")
        return batch[:, :, 0, 0]

    with pytest.raises(ValueError, match="the fan fell off"):
        drive(fails, POOL, "SingleStream", 0.1, tmp_path / "logs")


@pytest.mark.parametrize("text", [None, "", "Result is : PERHAPS\n"])
def test_a_summary_without_a_verdict_is_refused(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / SUMMARY).write_text(text)
    with pytest.raises(RefusedError, match=SUMMARY.replace(".", r"\.")):
        read_summary(tmp_path / SUMMARY)


def test_without_the_binding_the_engine_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(RefusedError, match="pip install mlcommons-loadgen"):
        drive(slow, POOL, "SingleStream", 0.1, tmp_path)


@pytest.mark.parametrize("scenario", MIN_QUERIES)
def test_a_session_with_a_scenario_brings_the_logs_home(scenario: str, linear: Linear, session_of: Any) -> None:
    steps: list[tuple[str, int, int]] = []
    with session_of(linear.path) as session:
        session.progress = lambda *step: steps.append(step)
        session.set_pool(some_images(7))
        said, logs = session.call({"op": "loadgen", "scenario": scenario, "seconds": 2.2 if scenario == "SingleStream" else 0.2}, Said)
        said, now = said.drive, time.perf_counter_ns()
        assert said["scenario"] == scenario
        begin, end = said["window_ns"]
        assert begin < end < now and end - begin >= 2e8
        assert said["valid"], "an engine of some microseconds keeps LoadGen busy for as long as it wants"
        assert "Result is : VALID" in logs[SUMMARY].decode()
        np.testing.assert_allclose(session.logits(some_images(7)), linear.logits(some_images(7)), atol=1e-5)
    if scenario == "SingleStream":
        assert {step for step, _, _ in steps} == {f"LoadGen {scenario}"} and {total for _, _, total in steps} == {2200}


def test_a_device_without_loadgen_says_so_and_keeps_its_engine(linear: Linear, session_of: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """A package of that name that cannot be imported, in front of the real one."""
    (tmp_path / "mlperf_loadgen.py").write_text("raise ImportError('not here')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    with session_of(linear.path) as session:
        session.set_pool(some_images(7))
        said, logs = session.call({"op": "loadgen", "scenario": "Offline", "seconds": 0.2}, Said)
        assert "pip install mlcommons-loadgen" in said.absent and not logs
        np.testing.assert_allclose(session.logits(some_images(7)), linear.logits(some_images(7)), atol=1e-5)
