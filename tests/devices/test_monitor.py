"""What the worker observes beside its engine: a real one on this machine, and the same on a recorded board."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quick_engines import ENGINE, Linear, Said, silent, some_images

from devices.host.profile import DeviceProfile, Limits, load_profile
from devices.host.rounds import Timing, TimingPlan, time_in_rounds
from devices.host.session import EngineError
from devices.worker.monitor import Monitor
from devices.worker.reader import ROOT
from devices.worker.spec import Watch
from devices.worker.telemetry.series import Telemetry, read_arrays
from harness.measurement.conditions import judge
from harness.measurement.energy import energy
from harness.measurement.latency import windows_ns

pytestmark = pytest.mark.slow(20)

HOST = load_profile("host")
BOARD = Path(__file__).parent / "fixtures" / "jetson-orin"
BATCH = 1024  # calls that are long enough for turns of several samples
TIMED = TimingPlan(batches=(BATCH,), measure_s=1.6, warmup_floor_s=0.1, warmup_cap_s=0.5, rounds=2)


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


@dataclass(frozen=True)
class Observed:
    """What one engine's session brought home."""

    before: dict[str, Any]
    rest: Any
    telemetry: Telemetry | None
    timing: Timing


def whole(timing: Timing) -> tuple[int, int]:
    """From the first call to the end of the last."""
    windows = windows_ns(timing)
    return windows[0][0], windows[-1][1]


@pytest.fixture
def observed(linear: Linear, session_of: Any) -> Callable[..., Observed]:
    """Time an engine as a run does; what was observed meanwhile."""

    def watch(profile: DeviceProfile = HOST) -> Observed:
        with session_of(linear.path, profile, timed=True) as session:
            session.set_pool(some_images(7))
            timings, failed = time_in_rounds({ENGINE: session}, TIMED, silent)
            assert failed == {}
            rest, files = session.call({"op": "rest"}, Said)
            told = None
            if rest.telemetry is not None:
                with np.load(io.BytesIO(files["telemetry"])) as arrays:
                    told = Telemetry(**{**rest.telemetry, "idle_ns": tuple(rest.telemetry["idle_ns"])}, series=read_arrays(dict(arrays)))
            return Observed(session.loaded.before, rest, told, timings[ENGINE][BATCH])

    return watch


def test_cpus_that_are_not_there_are_a_refusal_in_words(linear: Linear, session_of: Any) -> None:
    profile = replace(HOST, cpu=replace(HOST.cpu, affinity=(4000,)))
    words = r"cpu\.affinity of the profile is \[4000\]; this process may use CPUs"
    with pytest.raises(EngineError, match=words) as caught, session_of(linear.path, profile):
        pass
    assert caught.value.status == "refused"


def test_an_engine_on_this_machine_brings_its_state_and_samples_home(observed: Callable[..., Observed]) -> None:
    result = observed()
    assert {name: result.rest.after[name] for name in ("power_mode", "clocks_hz")} == {
        name: result.before[name] for name in ("power_mode", "clocks_hz")
    }
    told, window = result.telemetry, whole(result.timing)
    assert told is not None
    time_ns = told.series["load"].time_ns
    assert told.idle_ns[0] < told.idle_ns[1] < window[0] < window[1] <= time_ns[-1]
    assert time_ns[0] <= told.idle_ns[0] + 200e6
    inside = (time_ns > window[0]) & (time_ns < window[1])
    assert inside.sum() >= 6, "a sample every 100 ms"
    assert np.all(np.diff(result.timing.start_ns) >= result.timing.latency_ns[:-1])
    seen, _ = judge(HOST, told, window)
    assert seen is not None and seen.others_share is not None


def test_competing_programs_make_the_measurement_invalid(observed: Callable[..., Observed], hog: None) -> None:
    result = observed()
    _, wrong = judge(HOST, result.telemetry, whole(result.timing))
    assert any("other programs took" in reason and "stop them" in reason for reason in wrong)
    assert 0 <= result.rest.machine["others_share_before"] <= 1


def test_a_recorded_board_goes_through_the_same_worker(observed: Callable[..., Observed], on_board: None) -> None:
    """Energy of an inference there: the three rails of INA3221 draw the same all the time, so nothing is left above rest."""
    orin = load_profile("jetson-orin")
    result = observed(replace(orin, transport="local", telemetry=replace(orin.telemetry, idle_s=0.4)))
    assert result.before["recorded_from"] == str(BOARD)
    assert (result.before["power_mode"], result.before["clocks_locked"]) == ("MAXN", True)
    windows, window = windows_ns(result.timing), whole(result.timing)
    assert result.telemetry is not None
    seen, wrong = judge(orin, result.telemetry, window, "gpu")
    assert wrong == []
    assert seen is not None and seen.start_temperature_c == 52.562
    calls = len(result.timing.latency_ns)
    used = energy(result.telemetry, orin.telemetry.rails, windows, calls)
    watts = 19.824 * 0.121 + 19.824 * 0.081 + 4.952 * 0.951
    assert used is not None
    assert used.gross_mj == pytest.approx(watts * sum(end - start for start, end in windows) / 1e6 / calls)
    assert used.net_mj == pytest.approx(0.0, abs=1e-3 * used.gross_mj)


def test_nothing_is_watched_under_a_synthetic_clock(observed: Callable[..., Observed]) -> None:
    result = observed(load_profile("null"))
    assert (result.before, result.rest.after, result.rest.machine, result.telemetry) == ({}, {}, {}, None)


def test_the_null_device_gives_the_same_figures_twice(linear: Linear, session_of: Any, tmp_path: Path) -> None:
    found = []
    for run in ("one", "two"):
        with session_of(linear.path, load_profile("null"), tmp_path / run, seed=7, timed=True) as session:
            timing = time_in_rounds({ENGINE: session}, TimingPlan((1, 8)), silent)[0][ENGINE]
            memory = session.call({"op": "memory"}, Said)[0]
            assert session.loaded.synthetic
            found.append([session.loaded.load_ns, session.loaded.first_ns, memory, *(timing[b].latency_ns.tolist() for b in (1, 8))])
    assert found[0] == found[1]


def test_a_hot_board_is_left_to_cool_and_only_so_long(on_board: None) -> None:
    told: list[tuple[str, int, int]] = []
    watch = Watch(("thermal",), idle_s=0.0, start_temperature_c=40.0, cooldown_s=1.3)
    with Monitor(watch, real=True, timed=True) as beside:
        beside.begin()
        start = time.monotonic()
        beside.cool(lambda *step: told.append(step))
        assert 1.2 < time.monotonic() - start < 4
        cool = Monitor(replace(watch, start_temperature_c=60.0), real=True, timed=True)
        start = time.monotonic()
        cool.cool(lambda *step: told.append(("never", *step[1:])))
        assert time.monotonic() - start < 0.5
    assert [step for step, _, _ in told] == ["cooling"] * 2


def test_the_profile_tells_the_worker_what_to_watch() -> None:
    limited = replace(HOST, limits=Limits(start_temperature_c=50.0, cooldown_s=9.0))
    assert (limited.watch.start_temperature_c, limited.watch.cooldown_s) == (50.0, 9.0)
    assert HOST.watch.providers == ("load", "cpufreq", "thermal", "throttle", "rapl")
