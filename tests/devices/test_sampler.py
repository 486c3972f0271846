from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from devices.worker.reader import Reader
from devices.worker.spec import Watch
from devices.worker.telemetry.sampler import Sampler
from devices.worker.telemetry.series import Series, Telemetry, columns, read_arrays

ORIN = Reader(Path(__file__).parent / "fixtures" / "jetson-orin")
BOARD = Watch(("load", "ina3221", "tegrastats", "rapl"), period_ms=20)


def sample(watch: Watch, reader: Reader, seconds: float) -> tuple[Telemetry, int, int]:
    start = time.perf_counter_ns()
    sampler = Sampler(watch, reader)
    time.sleep(seconds)
    end = time.perf_counter_ns()
    told = sampler.stop((start, end))
    assert told is not None
    return told, start, end


def test_a_recorded_board_is_sampled_once_a_period_on_the_clock_of_the_calls() -> None:
    told, start, end = sample(BOARD, ORIN, 1.0)
    assert told.series.keys() == {"load", "ina3221", "tegrastats"}
    assert "intel-rapl" in told.absent["rapl"]
    for provider, series in told.series.items():
        steps_ms = np.diff(series.time_ns) / 1e6
        assert start <= series.time_ns[0] and end <= series.time_ns[-1] + 100e6, provider
        assert 15 < np.median(steps_ms) < 60, provider
    assert told.series["ina3221"].time_ns[-1] >= end, "what is timed last lies between two samples"
    assert told.series["tegrastats"].values["power_w:VDD_CPU_CV"] == pytest.approx(1.607)
    assert 0 < told.cpu_share < 1


def test_nothing_is_sampled_where_nothing_is_asked_for() -> None:
    assert Sampler(Watch(), ORIN).stop((0, 1)) is None


def test_the_load_of_this_machine_tells_own_work_from_that_of_others() -> None:
    watch = Watch(("load",), period_ms=50)
    sampler = Sampler(watch, Reader("/"))
    stop = time.process_time() + 0.6
    while time.process_time() < stop:
        pass
    told = sampler.stop((0, 1))
    assert told is not None
    ticks = {name.partition(":")[2]: values[-1] - values[0] for name, values in told.series["load"].values.items()}
    hertz = os.sysconf("SC_CLK_TCK")
    assert ticks["own"] / hertz == pytest.approx(0.6, abs=0.15)
    assert ticks["busy"] >= 0.9 * ticks["own"]
    assert ticks["total"] >= ticks["busy"]


def test_a_sampler_ends_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import os, time; from devices.worker.spec import Watch; from devices.worker.reader import Reader; "
        "from devices.worker.telemetry.sampler import Sampler; "
        "s = Sampler(Watch(('load',), 20), Reader('/')); print(s._pid, flush=True); time.sleep(0.1); os._exit(0)"
    )
    pid = int(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]).stdout
    )
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_source_that_cannot_start_is_absent_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    broken = tmp_path / "bin" / "tegrastats"
    broken.write_text("#!/no/such/shell\n")
    broken.chmod(0o755)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text("cpu 1 0 0 1 0 0 0 0\n")
    told, _, _ = sample(Watch(("load", "tegrastats"), period_ms=20), Reader(tmp_path), 0.2)
    assert "load" in told.series
    assert "cannot be started" in told.absent["tegrastats"]


values = st.floats(allow_nan=True, allow_infinity=False, width=64)
names = st.from_regex(r"[a-z_]{1,8}:[A-Za-z0-9.-]{1,8}", fullmatch=True)


@st.composite
def series(draw: st.DrawFn) -> Series:
    n = draw(st.integers(1, 5))
    time_ns = draw(arrays(np.int64, n, elements=st.integers(0, 2**60)))
    return Series(time_ns, draw(st.dictionaries(names, arrays(np.float64, n, elements=values), max_size=3)))


@given(st.dictionaries(st.sampled_from(["load", "tegrastats", "nvidia-smi"]), series(), max_size=3))
def test_series_come_back_as_they_went(told: dict[str, Series]) -> None:
    back = read_arrays(Telemetry(100, 0.0, (0, 1), told).arrays())
    assert back.keys() == told.keys()
    for provider, one in told.items():
        assert np.array_equal(back[provider].time_ns, one.time_ns)
        assert back[provider].values.keys() == one.values.keys()
        assert all(np.array_equal(back[provider].values[name], one.values[name], equal_nan=True) for name in one.values)


def test_samples_become_columns_with_gaps() -> None:
    table = columns([(1, {"a:x": 1.0}), (2, {"b:y": 2.0}), (3, {"a:x": 3.0, "b:y": 4.0})])
    assert table.time_ns.tolist() == [1, 2, 3]
    assert np.array_equal(table.values["a:x"], [1.0, np.nan, 3.0], equal_nan=True)
    assert np.array_equal(table.values["b:y"], [np.nan, 2.0, 4.0], equal_nan=True)


def test_damaged_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="no time_ns"):
        read_arrays({"load/a:x": np.zeros(3)})
    with pytest.raises(ValueError, match="another length"):
        read_arrays({"load/time_ns": np.zeros(2, np.int64), "load/a:x": np.zeros(3)})
