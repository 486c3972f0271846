"""A run whose samples come from recorded lines through the code that samples a board: what every format says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from synthetic import make_run

from devices.host.profile import load_profile
from devices.worker.telemetry import tegrastats
from devices.worker.telemetry.series import Telemetry, columns
from harness.measurement.conditions import judge
from harness.measurement.energy import energy
from harness.records import Mismatch, RunRecord, TelemetryRecord
from reports.markdown import to_markdown
from reports.render import render
from reports.run import Run
from reports.terminal import print_verdict

ORIN = load_profile("jetson-orin")
LINE = (
    "RAM 1282/62795MB EMC_FREQ 0%@3199 GR3D_FREQ {load}%@[1300,1300] gpu@{celsius}C tj@{celsius}C "
    "VDD_GPU_SOC {gpu}mW/1mW VDD_CPU_CV 1000mW/1mW VIN_SYS_5V0 4000mW/1mW"
)
S = 1_000_000_000


def sampled(hot: bool) -> Telemetry:
    """3 s at rest at 7 W, then 9 s at 20 W; where `hot`, 30 degrees warmer in the end."""
    rows = []
    for tenth in range(121):
        busy, celsius = tenth > 30, 45 + (max(tenth - 30, 0) / 3 if hot else 0)
        line = LINE.format(load=99 if busy else 0, celsius=f"{celsius:.1f}", gpu=15000 if busy else 2000)
        rows.append((tenth * S // 10, tegrastats.parse(line)))
    return Telemetry(100, 0.0123, (0, 3 * S), {"tegrastats": columns(rows)}, {"ina3221": "no /sys/class/hwmon"})


def watched(folder: Path, *, hot: bool = False, mode: str = "MAXN") -> RunRecord:
    """A synthetic run with one engine's telemetry and energy, judged by the real rules."""
    record = make_run(folder)
    told = sampled(hot)
    engine = record.engines[0]
    np.savez(folder / "timings/onnx-fp32-telemetry.npz", **told.arrays(), idle_ns=np.array(told.idle_ns))
    latency = {}
    for turn, (batch, figures) in enumerate(engine.latency.items()):
        window = (4 * S + turn * 2 * S, 5 * S + turn * 2 * S)
        starts = np.linspace(window[0], window[1] - 1e6, figures.n).astype(np.int64)
        with np.load(folder / figures.raw) as raw:
            np.savez(folder / figures.raw, **{**raw, "start_ns": starts})
        seen, wrong = judge(ORIN, told, window, "gpu")
        used = energy(told, ORIN.telemetry.rails, [window], 1000 * int(batch))
        latency[batch] = figures.model_copy(update={"conditions": seen, "energy": used, "invalid": wrong})
    sampling = TelemetryRecord(
        period_ms=100, cpu_share=0.0123, samples={"tegrastats": 121}, absent=told.absent, raw="timings/onnx-fp32-telemetry.npz"
    )
    wrong = Mismatch(engine="onnx-fp32", what="power mode", declared="MAXN", observed=mode, remedy="Run there: sudo nvpmodel -m 0")
    device = record.device.model_copy(
        update={
            "declared": {"power mode": "MAXN"},
            "before": {"power_mode": mode},
            "after": {"power_mode": mode},
            "mismatches": [] if mode == "MAXN" else [wrong],
        }
    )
    engines = [engine.model_copy(update={"latency": latency, "telemetry": sampling}), *record.engines[1:]]
    record = record.model_copy(update={"engines": engines, "device": device})
    record.save(folder)
    return record


def terminal(record: RunRecord, width: int = 80) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    print_verdict(record, console)
    return console.export_text()


def test_energy_is_the_integral_of_the_declared_rails(tmp_path: Path) -> None:
    """20 W for 1 s and 1,000 calls of one image: 20 mJ each, 13 of them above the 7 W at rest."""
    record = watched(tmp_path / "run")
    used = record.engines[0].latency["1"].energy
    assert used is not None
    assert (used.gross_mj, used.net_mj) == (pytest.approx(20.0), pytest.approx(13.0))
    text = to_markdown(Run.open(tmp_path / "run"))
    assert "| onnx-fp32 | 1 | 20.0 | 13.0 | 20.0 | 7.00 | 1,000 | VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0 |" in text
    assert "no power sensor was read" not in text
    assert "The device is as its profile declares it, before and after." in text
    assert "mJ/image" in terminal(record)
    assert "20.0" in terminal(record)


def test_what_was_sampled_is_drawn_over_the_same_time_as_the_latency(tmp_path: Path) -> None:
    watched(tmp_path / "run")
    page = render(tmp_path / "run", ["html"])["html"].read_text()
    for label in ("latency, ms", "power, W", "temperature, °C", "clock, GHz", "load, %", "seconds since sampling began", "at rest"):
        assert label in page
    assert "onnx-fp32 over time" in page
    assert "mathdefault" not in page


def test_an_invalid_measurement_is_withheld_everywhere_and_says_why(tmp_path: Path) -> None:
    record = watched(tmp_path / "run", hot=True)
    sound, hot = record.engines[0].latency["1"], record.engines[0].latency["32"]
    assert sound.invalid == []
    assert "it began at 61" in hot.invalid[0]
    text = to_markdown(Run.open(tmp_path / "run"))
    rows = [line for line in text.splitlines() if line.startswith("| onnx-fp32 | 32 |")]
    assert len(rows) == 4, "percentiles, steadiness, conditions, energy"
    assert sum("**INVALID**" in row for row in rows) == 3
    assert not any(f"{hot.p50:.3g}" in row or f"{hot.mean:.3g}" in row for row in rows)
    assert any(f"{sound.p50:.3g}" in line for line in text.splitlines() if line.startswith("| onnx-fp32 | 1 |"))
    page = render(tmp_path / "run", ["html"])["html"].read_text()
    drawing = page[page.index('aria-label="Telemetry of onnx-fp32') :].partition("</svg>")[0]
    assert drawing.count("INVALID") == 1, "the span of the hot batch size alone"
    assert "INVALID (onnx-fp32 batch 32): it began at 61" in terminal(record, 200)


def test_a_device_that_is_not_as_declared_names_the_command(tmp_path: Path) -> None:
    watched(tmp_path / "run", mode="MODE_15W")
    text = to_markdown(Run.open(tmp_path / "run"))
    assert "| power mode | MAXN | **MODE\\_15W** | Run there: sudo nvpmodel -m 0 | onnx-fp32 |" in text.replace("MODE_15W", "MODE\\_15W")
    assert "the measurement is INVALID" in text


def test_absent_sensors_are_named_where_no_energy_is_given(tmp_path: Path) -> None:
    record = watched(tmp_path / "run")
    bare = {batch: latency.model_copy(update={"energy": None}) for batch, latency in record.engines[0].latency.items()}
    engine = record.engines[0].model_copy(update={"latency": bare})
    record.model_copy(update={"engines": [engine, *record.engines[1:]]}).save(tmp_path / "run")
    text = to_markdown(Run.open(tmp_path / "run"))
    assert "No energy is given: no power sensor was sampled over a whole measurement. ina3221: no /sys/class/hwmon." in text
    assert "mJ/image" not in terminal(RunRecord.load(tmp_path / "run"))


def test_samples_that_are_gone_leave_their_figure_out_and_are_named(tmp_path: Path) -> None:
    watched(tmp_path / "run")
    (tmp_path / "run/timings/onnx-fp32-telemetry.npz").unlink()
    run = Run.open(tmp_path / "run")
    assert run.missing == ["timings/onnx-fp32-telemetry.npz"]
    assert "over time" not in render(tmp_path / "run", ["html"])["html"].read_text()


def test_what_was_read_from_recorded_files_is_called_recorded(tmp_path: Path) -> None:
    record = watched(tmp_path / "run")
    device = record.device.model_copy(update={"recorded_from": "fixtures/jetson-orin"})
    record.model_copy(update={"device": device}).save(tmp_path / "run")
    assert "RECORDED: state and telemetry of the device were read from recorded files in fixtures/jetson-orin." in to_markdown(
        Run.open(tmp_path / "run")
    )
