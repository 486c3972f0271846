"""Whole runs on a device behind a real SSH server."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import sshd
import torch
from commandline import harness
from safetensors.torch import save_file

from devices.host.errors import DeviceError
from devices.host.profile import load_profile
from devices.host.transports import connect
from devices.worker.reader import ROOT
from harness.models.zoo import ARCHITECTURES
from harness.records import RunRecord, Step, Verdict


@pytest.fixture
def subject(tmp_path: Path) -> list[str]:
    """A small network and 16 images, on the command line."""
    torch.manual_seed(0)
    save_file(ARCHITECTURES["resnet8"](4).state_dict(), tmp_path / "net.safetensors")
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=np.arange(16) % 4)
    model = ["--model", str(tmp_path / "net.safetensors"), "--arch", "resnet8", "--data", str(tmp_path / "data.npz")]
    return [*model, "--attack", "fgsm", "--samples", "4", "--eps", "8/255"]


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


def test_a_board_in_another_power_mode_makes_the_run_untrusted(
    jetson: sshd.Board, subject: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The state is that of a recorded tree, in which somebody left the board in 30 W; the report says that it is recorded."""
    recorded = tmp_path / "recorded"
    shutil.copytree(Path(__file__).parents[1] / "devices" / "fixtures" / "jetson-orin", recorded)
    (recorded / "bin/nvpmodel").write_text("#!/bin/sh\nprintf 'NV Power Mode: MODE_30W\\n2\\n'\n")
    launcher = jetson.folder / "python3"
    launcher.write_text(launcher.read_text().replace("exec ", f"exec env {ROOT}={shlex.quote(str(recorded))} ", 1))
    what = ("--device", "jetson-orin", "--host", sshd.HOST, "--flavour", "ort-int8", "--out", str(tmp_path / "run"))
    assert harness("bench", *subject, *what) == 3
    record = RunRecord.load(tmp_path / "run")
    assert record.verdict == Verdict.UNTRUSTED
    assert (record.device.before["power_mode"], record.device.before["l4t"]) == ("MODE_30W", "36.4.3")
    assert record.device.recorded_from == str(recorded)
    [wrong] = record.device.mismatches
    assert (wrong.what, wrong.declared, wrong.observed, wrong.remedy) == (
        "power mode", "MAXN", "MODE_30W", "Run there: sudo nvpmodel -m 0",
    )  # fmt: skip
    text = (tmp_path / "run" / "report.md").read_text()
    assert "SIMULATED: state and telemetry of the device were read from recorded files" in text
    assert "sudo nvpmodel -m 0" in text


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
    assert re.fullmatch(f"harness: {message}\n", capsys.readouterr().err)
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


def test_two_devices_in_one_run_one_of_them_behind_ssh(
    board: sshd.Board, subject: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One adversarial set, this computer and a board side by side: the board's worker really runs behind the SSH server."""
    own = tmp_path / "config" / "edge-harness" / "devices"
    own.mkdir(parents=True)
    profile = f'extends = "null"\nname = "far"\ntransport = "ssh"\nhost = "{sshd.HOST}"\npython = "{sys.executable}"\n'
    (own / "far.toml").write_text(profile)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    board.start()
    out = tmp_path / "run"
    code = harness("bench", *subject, "--device", "null", "--device", "far", "--flavour", "onnx-fp32", "--batch", "1", "--out", str(out))
    runs = [RunRecord.load(out / name) for name in ("null", "far")]
    assert code == max(run.verdict.exit_code for run in runs if run.verdict is not None)
    assert [run.engines[0].status for run in runs] == ["ok", "ok"]
    assert runs[0].attacks == runs[1].attacks
    assert f"| null – far | onnx-fp32 | {runs[0].data.n_clean} | 0 | " in (out / "report.md").read_text()
    assert sshd.processes(board.cache) == []
