"""Whole runs on a device behind a real SSH server."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import sshd
from commandline import harness
from nearest import make_nearest

from devices.host.errors import DeviceError
from devices.host.profile import load_profile
from devices.host.transports import connect
from devices.worker.reader import ROOT
from harness.records import RunRecord, Step, Verdict

pytestmark = pytest.mark.slow(50)


@pytest.fixture
def subject(tmp_path: Path) -> list[str]:
    """A small network and its images, on the command line."""
    model, data = make_nearest(tmp_path)
    what = ("--attack", "fgsm", "--samples", "4", "--eps", "4/255", "--source", "S1", "--batch", "1")
    return ["--model", str(model), "--data", str(data), *what]


@pytest.fixture
def jetson(board: sshd.Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sshd.Board:
    """A login whose Python is that of a Jetson's CPU under emulation, and a user's profile that says so."""
    try:
        emulated = connect(load_profile("jetson-orin", emulate=True))
    except DeviceError as error:
        pytest.skip(str(error))
    board.folder.joinpath("python3").write_text(f'#!/bin/sh\nexec {shlex.join(emulated.python)} "$@"\n')
    board.folder.joinpath("python3").chmod(0o755)
    own = tmp_path / "config" / "edge-harness" / "devices"
    own.mkdir(parents=True)
    text = f'extends = "jetson-orin"\nname = "jetson-orin"\npython = "{board.folder}/python3"\nemulated_host = true\n'
    (own / "jetson-orin.toml").write_text(text)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    board.start()
    return board


@pytest.fixture
def own_python(board: sshd.Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sshd.Board:
    """A user's profile of `cuda` whose Python there is this one."""
    own = tmp_path / "config" / "edge-harness" / "devices"
    own.mkdir(parents=True)
    (own / "cuda.toml").write_text(f'extends = "cuda"\nname = "cuda"\npython = "{sys.executable}"\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    board.start()
    return board


def test_bench_on_a_jetsons_cpu(jetson: sshd.Board, subject: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    what = ("--device", "jetson-orin", "--host", sshd.HOST, "--flavour", "ort-int8", "--out", str(tmp_path / "run"))
    assert harness("bench", *subject, *what) in (0, 1, 3)
    record = RunRecord.load(tmp_path / "run")
    assert (record.status, record.device.name, record.device.emulated) == (Step.FINISHED, "jetson-orin", True)
    assert record.settings["host"] == sshd.HOST
    assert record.device.observed["machine"] == "aarch64"
    assert "asimddp" in record.device.observed["isa_flags"]
    assert "qemu-aarch64" in record.device.observed["emulator"]
    assert record.device.observed["clock_skew_s"] is not None
    [engine] = record.engines
    assert (engine.status, engine.latency, engine.memory.peak_bytes) == ("ok", {}, None)
    assert engine.clean is not None
    assert engine.precision_evidence is not None
    assert engine.precision_evidence.label == "int8"
    assert record.verdict not in (None, Verdict.ENGINE_FAILED)
    for report in ("report.html", "report.md"):
        assert "EMULATED: numerics only" in (tmp_path / "run" / report).read_text()
    assert "EMULATED" in capsys.readouterr().out
    assert list((jetson.cache / "jobs").iterdir()) == []
    assert sshd.processes(jetson.cache) == []


def test_a_board_in_another_power_mode_keeps_its_verdict(
    jetson: sshd.Board, subject: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The state is that of a recorded tree, in which somebody left the board in 30 W; the report says that it is recorded."""
    recorded = tmp_path / "recorded"
    shutil.copytree(Path(__file__).parents[1] / "devices" / "fixtures" / "jetson-orin", recorded)
    (recorded / "bin/nvpmodel").write_text("#!/bin/sh\nprintf 'NV Power Mode: MODE_30W\\n2\\n'\n")
    launcher = jetson.folder / "python3"
    launcher.write_text(launcher.read_text().replace("exec ", f"exec env {ROOT}={shlex.quote(str(recorded))} ", 1))
    what = ("--device", "jetson-orin", "--host", sshd.HOST, "--flavour", "ort-int8", "--out", str(tmp_path / "run"))
    assert harness("bench", *subject, *what) in (0, 1, 3)
    said = capsys.readouterr().err
    assert "jetson-orin is not as declared, so latency and energy will not count: power mode: declared MAXN, observed MODE_30W" in said
    record = RunRecord.load(tmp_path / "run")
    assert not any(gate.name == "device state" and gate.passed is False for gate in record.gates)
    assert (record.device.before["power_mode"], record.device.before["l4t"]) == ("MODE_30W", "36.4.3")
    assert record.device.recorded_from == str(recorded)
    [wrong] = record.device.mismatches
    assert (wrong.what, wrong.declared, wrong.observed, wrong.remedy) == (
        "power mode", "MAXN", "MODE_30W", "Run there: sudo nvpmodel -m 0",
    )  # fmt: skip
    text = (tmp_path / "run" / "report.md").read_text()
    assert "RECORDED: state and telemetry of the device were read from recorded files" in text
    assert "sudo nvpmodel -m 0" in text


@pytest.fixture
def unlocked(board: sshd.Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sshd.Board:
    """A board out of the box (30 W, clocks free), whose state is that of a recorded tree; a user's profile wants MAXN and locked clocks."""
    recorded = tmp_path / "recorded"
    shutil.copytree(Path(__file__).parents[1] / "devices" / "fixtures" / "jetson-orin", recorded)
    (recorded / "bin/nvpmodel").write_text("#!/bin/sh\nprintf 'NV Power Mode: MODE_30W\\n2\\n'\n")
    (recorded / "bin/jetson_clocks").write_text("#!/bin/sh\necho 'GPU MinFreq=306000000 MaxFreq=1300500000 CurrentFreq=306000000'\n")
    board.variables[ROOT] = str(recorded)
    own = tmp_path / "config" / "edge-harness" / "devices"
    own.mkdir(parents=True)
    (own / "bench-top.toml").write_text(
        f'extends = "host"\nname = "bench-top"\ntransport = "ssh"\nhost = "board"\npython = "{sys.executable}"\n'
        '[power]\nrequired = "MAXN"\nmodes = { MAXN = 0, MODE_30W = 2 }\nquery = ["nvpmodel", "-q"]\n'
        'select = ["sudo", "nvpmodel", "-m", "{id}"]\n[clocks]\nlocked = true\nquery = ["jetson_clocks", "--show"]\n'
        'lock = ["sudo", "jetson_clocks"]\nrestore = ["sudo", "jetson_clocks", "--restore"]\n'
    )
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    board.start()
    return board


def test_a_board_out_of_the_box_is_told_before_any_work_and_keeps_its_verdict(
    unlocked: sshd.Board, subject: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Power mode and clocks void latency and energy, and no answer: the verdict does not hang on them."""
    assert harness("devices", "probe", "bench-top") == 4
    seen = capsys.readouterr().out
    assert "NOT AS DECLARED  power mode: declared MAXN, observed MODE_30W. Run there: sudo nvpmodel -m 0" in seen
    assert "NOT AS DECLARED  clocks: declared locked, observed not locked. Run there: sudo jetson_clocks" in seen
    assert "MISSING" not in seen

    code = harness("bench", *subject, "--device", "bench-top", "--flavour", "onnx-fp32", "--out", str(tmp_path / "run"))
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("harness: bench-top is not as declared, so latency and energy will not count: power mode: declared MAXN")
    assert "clocks: declared locked" in second
    record = RunRecord.load(tmp_path / "run")
    assert record.verdict is not None
    assert code == record.verdict.exit_code
    state, timing = ([gate for gate in record.gates if gate.name == name] for name in ("device state", "conditions"))
    assert [gate.passed for gate in state] == [True]
    assert [gate.passed for gate in timing] == [False]
    assert "sudo nvpmodel -m 0" in timing[0].observed
    assert all(latency.invalid for engine in record.engines for latency in engine.latency.values())
    assert not any("device state" in claim.reason for claim in record.claims)


def test_a_python_below_the_home_folder_serves_a_whole_job(
    board: sshd.Board, subject: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The login begins in the home folder, the worker in the job's: a relative path or ~ leads to the same Python from both."""
    home = Path.home()
    launcher = Path(tempfile.mkdtemp(prefix="edge-harness-python-", dir=home))
    try:
        (launcher / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (launcher / "python").chmod(0o755)
        own = tmp_path / "config" / "edge-harness" / "devices"
        own.mkdir(parents=True)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        board.start()
        for number, python in enumerate((f"{launcher.name}/python", f"~/{launcher.name}/python")):
            (own / "bench-top.toml").write_text(
                f'extends = "host"\nname = "bench-top"\ntransport = "ssh"\nhost = "board"\npython = "{python}"\n'
            )
            what = ("--flavour", "onnx-fp32", "--source", "S4", "--out", str(tmp_path / f"run{number}"))
            assert harness("bench", *subject, "--device", "bench-top", *what) in (0, 1, 3)
            assert [engine.status for engine in RunRecord.load(tmp_path / f"run{number}").engines] == ["ok"]
    finally:
        shutil.rmtree(launcher)


def test_a_device_that_is_not_there_is_told_before_any_work(
    board: sshd.Board, subject: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert harness("bench", *subject, "--device", "raspberry-pi-4", "--host", sshd.HOST, "--out", str(tmp_path / "run")) == 4
    said = capsys.readouterr().err
    assert said.startswith("harness: board cannot be reached: is it on, in this network, and does its SSH server run?")
    assert said.endswith("(without the device, its CPU can be emulated here: --emulate)\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flavours", "message"),
    [
        (
            ("trt-int8", "onnx-fp32"),
            r"cuda has no tensorrt for trt-int8; .*harness devices probe cuda\. .* as it is: onnx-fp32, ort-int8,.*",
        ),
        (("trt-fp16", "ort-int8"), r"cuda has no tensorrt for trt-fp16; .*"),
    ],
)
def test_without_a_runtime_the_flavours_that_run_are_offered(
    own_python: sshd.Board, subject: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], flavours: tuple[str, ...], message: str
) -> None:
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is installed here")
    words = [word for flavour in flavours for word in ("--flavour", flavour)]
    assert harness("bench", *subject, "--device", "cuda", "--host", sshd.HOST, *words, "--out", str(tmp_path / "run")) == 4
    assert re.fullmatch(f"harness: {message}", capsys.readouterr().err.splitlines()[-1])  # what is not as declared comes before
    assert not (tmp_path / "run").exists()


def test_a_board_is_looked_for_under_its_own_name(board: sshd.Board, subject: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    board.config.write_text("Host raspberry-pi-5\nHostName no-such-host.invalid\n")
    assert harness("bench", *subject, "--device", "raspberry-pi-5") == 4
    said = capsys.readouterr().err
    assert "raspberry-pi-5 cannot be reached: that name leads nowhere. Add it to ~/.ssh/config" in said
    assert "--host USER@ADDRESS" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--device", "raspberry-pi-4", "--emulate", "--host", "me@pi"), "--host me@pi is another one. Choose one of them"),
        (("--device", "host", "--host", "-oProxyCommand=ls"), "is no host; expected USER@ADDRESS"),
    ],
)
def test_a_host_that_cannot_be_meant_is_wrong_usage(
    subject: list[str], words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert harness("bench", *subject, *words) == 2
    assert message in capsys.readouterr().err


def test_probe_says_what_is_there_and_what_is_missing(
    board: sshd.Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / "onnxruntime.py").write_text("raise ImportError('libfoo.so')")
    board.variables["PYTHONPATH"] = str(tmp_path / "planted")
    board.start()
    own = tmp_path / "config" / "edge-harness" / "devices"
    own.mkdir(parents=True)
    (own / "bench-top.toml").write_text(
        f'extends = "host"\nname = "bench-top"\ntransport = "ssh"\nhost = "board"\npython = "{sys.executable}"\n'
    )
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert harness("devices", "probe", "bench-top", "--json") == 4
    seen = json.loads(capsys.readouterr().out)
    assert seen["found"]["numpy"] == np.__version__
    assert seen["found"]["onnxruntime"] is None
    assert len(seen["missing"]) == 1
    assert seen["missing"][0].startswith("onnxruntime cannot be imported: ")
    assert f"{sys.executable} -m pip install" in seen["missing"][0]
