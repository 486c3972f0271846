"""A quiet measurement counts; each planted disturbance makes it INVALID, says why, and what helps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from devices.host.profile import Clocks, Limits, load_profile
from devices.host.rounds import Timing
from devices.host.session import EngineId
from devices.worker.telemetry.series import Series, Telemetry
from harness.audit import gates
from harness.measurement.conditions import conditions, faults, judge, unchecked
from harness.measurement.facts import Drive, Facts
from harness.stages import engine_record
from harness.stages.device import outcome, while_timed
from harness.stages.engines import Engine
from harness.stages.measured import Measured

S = 1_000_000_000
TIMES = np.arange(0, 6 * S, S // 10)
WINDOW = (2 * S + S // 20, 4 * S + S // 20)  # between samples
N = len(TIMES)
ORIN = load_profile("jetson-orin")


def course(before: float, inside: float, after: float | None = None) -> np.ndarray:
    """One value before the window, one in it and one after."""
    return np.where(WINDOW[0] > TIMES, before, np.where(WINDOW[1] >= TIMES, inside, inside if after is None else after))


def quota(cpus: float, throttled: np.ndarray) -> dict[str, np.ndarray]:
    return {"quota:cpus": np.full(N, cpus), "quota:periods": np.arange(N) * 1.0, "quota:throttled": throttled}


def ramp(start: float, end: float) -> np.ndarray:
    return np.interp(TIMES, WINDOW, [start, end])


def load(others: float = 0.0, steal: float = 0.0, own: float = 0.5) -> dict[str, np.ndarray]:
    """Four CPUs for 6 s in ticks of 10 ms; shares of all CPU time."""
    total = 400 * TIMES / S
    return {"ticks:total": total, "ticks:own": own * total, "ticks:busy": (own + others) * total, "ticks:steal": steal * total}


QUIET: dict[str, np.ndarray] = {
    **load(),
    "temperature_c:tj": np.full(N, 45.0),
    "frequency_hz:cpu0": np.full(N, 2.2e9),
    "frequency_hz:cpu1": np.full(N, 7e8),
    "frequency_hz:gpu": np.full(N, 1.3e9),
    "events:oc1": np.full(N, 7.0),
    "throttled:firmware": np.zeros(N),
}


def told(**changes: np.ndarray) -> Telemetry:
    values = {**QUIET, **{name.replace("__", ":"): value for name, value in changes.items()}}
    ticks = {name: value for name, value in values.items() if name.startswith(("ticks:", "quota:"))}
    rest = {name: value for name, value in values.items() if name not in ticks}
    return Telemetry(100, 0.004, (0, S), {"load": Series(TIMES, ticks), "other": Series(TIMES, rest)})


def test_a_quiet_measurement_counts() -> None:
    for unit in ("cpu", "gpu"):
        seen, wrong = judge(ORIN, told(), WINDOW, unit)
        assert wrong == []
        assert seen is not None
        assert (seen.others_share, seen.steal_share) == (pytest.approx(0.0), pytest.approx(0.0))
        assert (seen.start_temperature_c, seen.temperature_rise_c, seen.clock, seen.clock_drop) == (45.0, 0.0, unit, 0.0)


NOISY: dict[str, tuple[dict[str, np.ndarray], str, str, str]] = {
    "other programs": (
        {f"ticks__{k[6:]}": v for k, v in load(others=0.4).items()},
        "cpu",
        "other programs took 40% of the CPU time",
        "stop them",
    ),
    "hypervisor": ({f"ticks__{k[6:]}": v for k, v in load(steal=0.08).items()}, "cpu", "the hypervisor took 8.0%", "bare metal"),
    "a CPU quota": (
        {name.replace(":", "__"): values for name, values in quota(0.5, course(3.0, 545.0)).items()},
        "cpu",
        "the CPU quota of 0.5 CPUs (cpu.max of its control group) stopped it in 542 of",
        "docker --cpus",
    ),
    "over-current": ({"events__oc1": course(7.0, 9.0)}, "gpu", "throttled itself (oc1: 2 events)", "power supply"),
    "under-voltage": ({"throttled__firmware": course(0.0, 5.0, 0.0)}, "cpu", "throttled itself (firmware: state 0x5)", "power supply"),
    "a hot start": ({"temperature_c__tj": np.full(N, 71.0)}, "cpu", "it began at 71.0 °C (limit 60)", "cool for longer"),
    "heat": ({"temperature_c__tj": ramp(40.0, 70.0)}, "cpu", "it grew 28.5 °C hotter meanwhile (limit 25)", "cooling"),
    "a CPU clock that falls": ({"frequency_hz__cpu0": ramp(2.2e9, 1.6e9)}, "cpu", "the CPU clock went from 2,1", "sudo jetson_clocks"),
    "a locked clock that rises": ({"frequency_hz__gpu": ramp(1.0e9, 1.3e9)}, "gpu", "the GPU clock went from 1,0", "sudo jetson_clocks"),
}


@pytest.mark.parametrize("fault", NOISY)
def test_each_planted_fault_is_told_once_with_its_remedy(fault: str) -> None:
    changes, unit, says, remedy = NOISY[fault]
    _, (found,) = judge(ORIN, told(**changes), WINDOW, unit)
    assert says in found
    assert remedy in found


def test_what_happens_outside_the_window_does_not_count() -> None:
    before = {name.replace(":", "__"): values for name, values in load().items()}
    before["ticks__busy"] = before["ticks__own"] + 0.4 * 400 * np.minimum(TIMES, S) / S  # a busy first second
    _, wrong = judge(ORIN, told(**before, temperature_c__tj=course(40.0, 50.0), events__oc1=course(3.0, 7.0, 7.0)), WINDOW)
    # The counter grew between the last sample before the window and its first one: whether in it or not is not known, so it counts.
    assert [fault.partition(" (")[0] for fault in wrong] == ["the hardware throttled itself"]
    earlier = np.where(TIMES < S, 3.0, 7.0)
    assert judge(ORIN, told(**before, events__oc1=earlier), WINDOW)[1] == []


def test_a_clock_that_is_not_locked_may_rise_and_waver() -> None:
    free, limits = Clocks(), Limits()
    rising = conditions(told(frequency_hz__cpu0=ramp(1.2e9, 2.2e9)), WINDOW)
    wavering = conditions(told(frequency_hz__cpu0=2.2e9 + 1e8 * np.sin(TIMES / S * 9)), WINDOW)
    assert list(faults(rising, limits, free)) == list(faults(wavering, limits, free)) == []
    falling = conditions(told(frequency_hz__cpu0=ramp(2.2e9, 1.2e9)), WINDOW)
    assert ["cpupower" in fault for fault in faults(falling, limits, free)] == [True]


def test_work_that_moves_from_one_cpu_to_another_is_no_fall_of_the_clock() -> None:
    half = TIMES < 3 * S
    moved = told(frequency_hz__cpu0=np.where(half, 2.2e9, 7e8), frequency_hz__cpu1=np.where(half, 7e8, 2.2e9))
    assert judge(load_profile("host"), moved, WINDOW)[1] == []


def test_limits_are_the_profiles() -> None:
    busy = told(**{f"ticks__{k[6:]}": v for k, v in load(others=0.4).items()})
    assert judge(replace(ORIN, limits=Limits(others_share=0.5)), busy, WINDOW)[1] == []


def test_too_short_a_window_tells_no_share() -> None:
    seen = conditions(told(**{f"ticks__{k[6:]}": v for k, v in load(others=0.4).items()}), (2 * S, 2 * S + S // 5))
    assert (seen.others_share, seen.steal_share) == (None, None)


def test_what_no_sensor_tells_is_said_to_be_unchecked() -> None:
    quiet = conditions(told(**{name.replace(":", "__"): values for name, values in quota(0.0, np.zeros(N)).items()}), WINDOW)
    assert (unchecked(quiet), quiet.quota_cpus, quiet.quota_throttled, quiet.throttled) == ([], 0.0, 0, [])
    bare = conditions(Telemetry(100, 0.0, (0, S), {"load": Series(TIMES, load())}), WINDOW)
    assert unchecked(bare) == ["the CPU quota", "temperature", "the clock", "throttling"]
    assert bare.throttled is None
    assert len(unchecked(conditions(Telemetry(100, 0.0, (0, S)), WINDOW))) == 6


@pytest.mark.parametrize("last", [S, 3 * S], ids=["before the window", "within it"])
def test_a_sensor_that_stopped_does_not_say_that_all_was_well(last: int) -> None:
    stopped = np.where(last >= TIMES, 0.0, np.nan)
    seen = conditions(told(events__oc1=stopped, throttled__firmware=stopped), WINDOW)
    assert (seen.throttled, unchecked(seen)) == (None, ["the CPU quota", "throttling"])
    course = np.where(last >= TIMES, 45.0, np.nan)
    cold = conditions(told(temperature_c__tj=course, frequency_hz__cpu0=course, frequency_hz__cpu1=course), WINDOW)
    assert (cold.start_temperature_c, cold.temperature_rise_c, cold.clock_drop) == (None, None, None)
    until = TIMES[last >= TIMES]
    ended = Telemetry(100, 0.0, (0, S), {"throttle": Series(until, {"throttled:firmware": np.zeros(len(until))})})
    assert conditions(ended, WINDOW).throttled is None
    assert conditions(told(throttled__firmware=np.where(TIMES <= 3 * S, 4.0, np.nan)), WINDOW).throttled, "what it saw counts"


def test_a_quota_that_stopped_nothing_is_no_fault() -> None:
    _, wrong = judge(ORIN, told(**{name.replace(":", "__"): values for name, values in quota(0.5, np.full(N, 7.0)).items()}), WINDOW)
    assert wrong == []


def test_without_sensors_nothing_is_said_and_nothing_is_invalid() -> None:
    seen, wrong = judge(ORIN, Telemetry(100, 0.0, (0, S)), WINDOW)
    assert wrong == []
    assert seen is not None
    assert {seen.others_share, seen.steal_share, seen.start_temperature_c, seen.temperature_rise_c, seen.clock_drop} == {None}
    assert judge(ORIN, None, WINDOW) == (None, [])
    assert judge(ORIN, told(), None) == (None, [])


@pytest.mark.parametrize("others", [0.0, 0.4])
def test_what_disturbs_loadgens_run_alone_makes_it_invalid_whatever_loadgen_says(others: float, tmp_path: Path) -> None:
    """Quiet while the calls were timed, shared while LoadGen drove."""
    driven = (4 * S + S // 20, 5 * S + S // 20)
    ticks = load()
    busy = ticks["ticks:busy"] + others * np.interp(TIMES, driven, [0.0, 400.0])
    telemetry = told(**{"ticks__busy": busy})
    assert judge(load_profile("host"), telemetry, (S, 3 * S))[1] == []
    engine = Engine(EngineId("onnx-fp32"), "onnxruntime", None)
    (tmp_path / "m" / "loadgen").mkdir(parents=True)
    drive = Drive(window_ns=list(driven), scenario="Offline", valid=True, figures={})
    m = Measured(engine, Facts(status="ok", drive=drive), tmp_path / "m", {}, telemetry)
    found = engine_record._loadgen(load_profile("host"), m, [m], tmp_path / "run")
    assert found is not None and found.valid
    assert ["other programs took" in reason for reason in found.invalid] == ([True] if others else [])


@pytest.mark.parametrize("others", [0.0, 0.4])
def test_the_line_of_an_engine_says_what_does_not_count(others: float, tmp_path: Path) -> None:
    starts = np.linspace(2 * S, 4 * S, 20, dtype=np.int64)
    timing = Timing(np.full(20, 62_400_000), np.zeros(20, np.int64), np.zeros(0, np.int64), True, {}, starts)
    telemetry = told(**{f"ticks__{name[6:]}": value for name, value in load(others=others).items()})
    m = Measured(Engine(EngineId("onnx-fp32"), "onnxruntime", None), Facts(status="ok"), tmp_path, {8: timing}, telemetry)
    line = outcome(m, load_profile("host"), [m])
    if others:
        assert line.startswith("onnx-fp32 on host: ok, batch 8: INVALID; other programs took 40% of the CPU time") and "62.4" not in line
    else:
        assert line == "onnx-fp32 on host: ok, batch 8: 62.4 ms"


@pytest.mark.parametrize("clock_ns", [0, 10**15], ids=["one clock", "another machine's clock"])
@pytest.mark.parametrize("others", [0.0, 0.4])
def test_a_users_own_engine_that_is_timed_beside_is_no_other_program_and_hides_none(others: float, clock_ns: int, tmp_path: Path) -> None:
    """It has the CPUs to itself in its turns, and nobody samples it."""
    turns, its = [(2 * S, 2 * S + S // 2), (3 * S, 3 * S + S // 2)], [(2 * S + S // 2, 3 * S), (3 * S + S // 2, 4 * S)]

    def timing(windows: list[tuple[int, int]], shift_ns: int = 0) -> Timing:
        starts = [start + shift_ns for start, _ in windows]
        lengths = [end - start for start, end in windows]
        return Timing(np.array(lengths), np.arange(2, dtype=np.int16), np.zeros(0, np.int64), True, {}, np.array(starts, np.int64))

    seconds = np.arange(0, 6 * S, S // 10) / S
    in_turns, in_its = (sum(np.clip(seconds - a / S, 0, (b - a) / S) for a, b in windows) for windows in (turns, its))
    ticks = {
        "ticks__total": 400 * seconds, "ticks__own": 200 * in_turns, "ticks__steal": 0 * seconds,
        "ticks__busy": 200 * in_turns + 400 * in_its + 400 * others * in_turns,
    }  # fmt: skip
    engine, own = (Engine(EngineId(name), name, None) for name in ("onnx-fp32", "exec-mine"))
    m = Measured(engine, Facts(status="ok"), tmp_path, {8: timing(turns)}, told(**ticks))
    beside = Measured(own, Facts(status="ok"), tmp_path, {8: timing(its, clock_ns)})
    seen, wrong = while_timed(load_profile("host"), m, [m, beside], 8)
    assert seen is not None and seen.others_share == pytest.approx(others, abs=0.01)
    assert ["other programs" in reason for reason in wrong] == [True] * (others > 0)
    alone, _ = while_timed(load_profile("host"), m, [m], 8)
    assert alone is not None and alone.others_share == pytest.approx((0.5 * 1 + others) / 1.5, abs=0.01), "the whole time, as ever"


def test_a_figure_that_misses_its_limit_by_little_is_not_told_as_equal_to_it() -> None:
    limits = Limits(start_temperature_c=50.0, rise_c=5.0)
    seen = conditions(told(**load(others=0.2512, steal=0.0503)), WINDOW)
    hot = seen.model_copy(update={"start_temperature_c": 50.02, "temperature_rise_c": 5.04})
    said = list(faults(hot, limits, Clocks()))
    for words in ("took 25.1% of the CPU time (limit 25%)", "took 5.03% of", "began at 50.02 °C (limit 50)", "grew 5.04 °C hotter"):
        assert any(words in one for one in said), (words, said)
    assert "reports 0.699 of" in gates.own_clock("e", 0.699).observed
    assert "take 1.251 of" in gates.steady_latency("e", {1: [1.0, 1.0, 1.251]}).observed
    assert "takes 0.8996 of" in gates.repeated_inputs("e", 0.8996).observed
    assert "takes 0.95 of" in gates.repeated_inputs("e", 0.95).observed
