"""The worker beside its job: a real engine on this machine, and the same on a recorded board."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from devices.result import Result
from devices.run import run_job

from devices.host.profile import Limits, load_profile
from devices.worker.monitor import Beside
from devices.worker.reader import ROOT
from devices.worker.spec import Job, LatencyPlan, Watch
from harness.measurement.conditions import judge
from harness.measurement.energy import energy
from harness.measurement.latency import window_ns

HOST = load_profile("host")
BOARD = Path(__file__).parent / "fixtures" / "jetson-orin"
TIMED = LatencyPlan("clean", batches=(1,), measure_s=1.2, warmup_floor_s=0.1, warmup_cap_s=0.5)


def silent(step: str, done: int, total: int) -> None:
    pass


@pytest.fixture
def on_board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ROOT, str(BOARD))


@pytest.fixture
def hog() -> Iterator[None]:
    """As many busy programs as there are CPUs."""
    many = len(__import__("os").sched_getaffinity(0))
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(many)]
    yield
    for process in started:
        process.kill()
        process.wait()


def run(job: Job, folder: Path, profile: Any = HOST) -> Result:
    result = run_job(profile, job, folder, silent)
    assert result.status == "ok", result.error
    return result


def test_cpus_that_are_not_there_are_a_refusal_in_words(tmp_path: Path, linear: Any, job_of: Callable[..., Job]) -> None:
    profile = replace(HOST, cpu=replace(HOST.cpu, affinity=(4000,)))
    result = run_job(profile, job_of(linear.path), tmp_path / "job", silent)
    assert result.status == "refused"
    assert "cpu.affinity of the profile is [4000]; this process may use CPUs" in str(result.error)


def test_a_job_on_this_machine_brings_its_state_and_samples_home(tmp_path: Path, linear: Any, job_of: Callable[..., Job]) -> None:
    result = run(job_of(linear.path, latency=TIMED), tmp_path / "job")
    assert result.before["isa_flags"] == result.environment["isa_flags"]
    assert {name: result.after[name] for name in ("power_mode", "clocks_hz")} == {n: result.before[n] for n in ("power_mode", "clocks_hz")}
    told, window = result.telemetry, window_ns(result.timings[1])
    assert told is not None and window is not None
    assert (window[1] - window[0]) / 1e9 == pytest.approx(1.2, abs=0.5)
    time_ns = told.series["load"].time_ns
    assert told.idle_ns[0] < told.idle_ns[1] < window[0] < window[1] <= time_ns[-1]
    assert time_ns[0] <= told.idle_ns[0] + 200e6
    inside = (time_ns > window[0]) & (time_ns < window[1])
    assert inside.sum() >= 6, "a sample every 100 ms"
    assert np.all(np.diff(result.timings[1].start_ns) >= result.timings[1].latency_ns[:-1])
    seen, _ = judge(HOST, told, window)
    assert seen is not None and seen.others_share is not None


def test_competing_programs_make_the_measurement_invalid(tmp_path: Path, linear: Any, job_of: Callable[..., Job], hog: None) -> None:
    result = run(job_of(linear.path, latency=TIMED), tmp_path / "job")
    _, wrong = judge(HOST, result.telemetry, window_ns(result.timings[1]))
    assert any("other programs took" in reason and "stop them" in reason for reason in wrong)


def test_a_recorded_board_goes_through_the_same_worker(tmp_path: Path, linear: Any, job_of: Callable[..., Job], on_board: None) -> None:
    """Energy of an inference there: the three rails of INA3221 draw the same all the time, so nothing is left above rest."""
    orin = load_profile("jetson-orin")
    quick = replace(orin, transport="local", telemetry=replace(orin.telemetry, idle_s=0.4))
    result = run(job_of(linear.path, latency=TIMED), tmp_path / "job", quick)
    assert result.before["recorded_from"] == str(BOARD)
    assert (result.before["power_mode"], result.before["clocks_locked"]) == ("MAXN", True)
    window = window_ns(result.timings[1])
    assert result.telemetry is not None and window is not None
    seen, wrong = judge(orin, result.telemetry, window, "gpu")
    assert wrong == []
    assert seen is not None and seen.start_temperature_c == 52.562
    calls = len(result.timings[1].latency_ns)
    used = energy(result.telemetry, orin.telemetry.rails, window, calls)
    watts = 19.824 * 0.121 + 19.824 * 0.081 + 4.952 * 0.951
    assert used is not None
    assert used.gross_mj == pytest.approx(watts * (window[1] - window[0]) / 1e6 / calls)
    assert used.net_mj == pytest.approx(0.0, abs=1e-3 * used.gross_mj)


def test_nothing_is_watched_under_a_simulated_clock(tmp_path: Path, linear: Any, job_of: Callable[..., Job]) -> None:
    result = run(job_of(linear.path), tmp_path / "job", load_profile("null"))
    assert (result.before, result.after, result.telemetry) == ({}, {}, None)


def test_a_hot_board_is_left_to_cool_and_only_so_long(on_board: None, linear: Any, job_of: Callable[..., Job]) -> None:
    told: list[tuple[str, int, int]] = []
    watch = Watch(("thermal",), idle_s=0.0, start_temperature_c=40.0, cooldown_s=1.3)
    with Beside(replace(job_of(linear.path), watch=watch)) as beside:
        beside.begin()
        start = time.monotonic()
        beside.cool(lambda *step: told.append(step))
        assert 1.2 < time.monotonic() - start < 4
        cool = Beside(replace(job_of(linear.path), watch=replace(watch, start_temperature_c=60.0)))
        start = time.monotonic()
        cool.cool(lambda *step: told.append(("never", *step[1:])))
        assert time.monotonic() - start < 0.5
    assert [step for step, _, _ in told] == ["cooling"] * 2


def test_the_profile_tells_the_worker_what_to_watch() -> None:
    limited = replace(HOST, limits=Limits(start_temperature_c=50.0, cooldown_s=9.0))
    assert (limited.watch.start_temperature_c, limited.watch.cooldown_s) == (50.0, 9.0)
    assert HOST.watch.providers == ("load", "cpufreq", "thermal", "throttle", "rapl")
