"""Real kernels of other CPUs, under QEMU. The planted convolution knows the right answer: 255 * 127 + 255 * 127 = 64,770 and 32,767."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from quick_engines import ENGINE, opened, wanted

from devices.host import sysroot as sysroots
from devices.host.errors import DeviceError
from devices.host.messages import Loaded
from devices.host.probe import prepare, probe
from devices.host.profile import load_profile
from devices.host.sysroot import Sysroot
from devices.host.transports import connect, emulated
from devices.worker.spec import RuntimeOptions

pytestmark = pytest.mark.slow(45)

CHANNELS, SIDE, CLASSES = 16, 8, 4
SCALE = CHANNELS * 9 * 127 / 200  # of the output: the largest sum is level 200 of 255
PRECISE = {"session.x64quantprecision": "1"}


def needs(machine: str) -> Any:
    found = shutil.which(f"qemu-{machine}-static") or shutil.which(f"qemu-{machine}")
    return pytest.mark.skipif(found is None, reason=f"qemu-{machine}-static is not installed: {emulated.INSTALL_QEMU}")


x86 = needs("x86_64")
arm = pytest.mark.skipif(
    not Sysroot.of(load_profile("raspberry-pi-4", emulate=True).emulation).finished,  # type: ignore[arg-type]
    reason="the arm64 sysroot is not built: harness devices prepare raspberry-pi-4",
)


def plant(path: Path, weight: int) -> None:
    """A quantized convolution, 16 -> 4 channels, 3 x 3, every weight the same, and the mean over its picture. Scales are 1."""
    weights = np.full((CLASSES, CHANNELS, 3, 3), weight, np.int8)
    constants = {
        "one": np.float32(1), "small": np.float32(1 / 255), "wide": np.float32(SCALE), "u0": np.uint8(0), "i0": np.int8(0), "w": weights,
        "bias": np.zeros(CLASSES, np.int32), "b0": np.int32(0),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "small", "u0"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "small", "u0"], ["x"]),
        helper.make_node("DequantizeLinear", ["w", "one", "i0"], ["wf"]),
        helper.make_node("DequantizeLinear", ["bias", "small", "b0"], ["bf"]),
        helper.make_node("Conv", ["x", "wf", "bf"], ["y"], kernel_shape=[3, 3]),
        helper.make_node("QuantizeLinear", ["y", "wide", "u0"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "wide", "u0"], ["yd"]),
        helper.make_node("GlobalAveragePool", ["yd"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "planted",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", CHANNELS, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


@dataclass(frozen=True)
class Answer:
    """What one engine answered to three white images, and what it says of itself."""

    logits: np.ndarray
    loaded: Loaded


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Answer]:
    """Ask the planted network about white images: device, weight, session entries."""
    folder = tmp_path_factory.mktemp("planted")

    @cache
    def ask(device: str, weight: int = 127, **config: str) -> Answer:
        model = folder / f"{weight}.onnx"
        plant(model, weight)
        options = RuntimeOptions("images", "logits", threads=1, session_config=dict(config))
        profile = load_profile(device, emulate=load_profile(device).emulation is not None)
        planted = wanted(model, flavour="planted", options=options, shape=(SIDE, SIDE, CHANNELS))
        place = folder / f"{device}-{weight}-{len(config)}"
        with opened(place, {ENGINE: planted}, profile) as sessions:
            return Answer(sessions[ENGINE].logits(np.full((3, SIDE, SIDE, CHANNELS), 255, np.uint8)), sessions[ENGINE].loaded)

    return ask


def exact(weight: int) -> float:
    """What integer arithmetic without saturation gives: 16 channels x 9 taps x 255/255 x weight, rounded to the output's scale."""
    return round(CHANNELS * 9 * weight / SCALE) * SCALE


@x86
def test_avx2_saturates_and_says_what_it_is(answer: Callable[..., Answer]) -> None:
    result = answer("x86-avx2")
    wrong = result.logits / exact(127)
    assert wrong.max() < 0.6, "32,767 of 64,770, about a half, is left of every pair of products"
    assert "avx2" in result.loaded.environment["isa_flags"]
    assert "avx512f" not in result.loaded.environment["isa_flags"]
    assert result.loaded.environment["cpu_model"].startswith("Haswell, emulated")


@x86
@pytest.mark.parametrize(
    ("device", "weight", "session"),
    [("x86-avx2", 64, {}), ("x86-avx2", 127, PRECISE), ("x86-sse4", 127, {})],
    ids=["avx2, 7-bit weights", "avx2, x64quantprecision", "sse4"],
)
def test_the_others_are_exact(answer: Callable[..., Answer], device: str, weight: int, session: dict[str, Any]) -> None:
    np.testing.assert_allclose(answer(device, weight, **session).logits, exact(weight), rtol=1e-6)


@arm
@pytest.mark.parametrize("device", ["raspberry-pi-4", "jetson-orin"])
def test_arm_is_exact(answer: Callable[..., Answer], device: str) -> None:
    result = answer(device)
    np.testing.assert_allclose(result.logits, exact(127), rtol=1e-6)
    assert result.loaded.environment["machine"] == "aarch64"
    assert ("asimddp" in result.loaded.environment["isa_flags"]) == (device == "jetson-orin")


@x86
def test_probe_says_what_is_there() -> None:
    seen = probe(load_profile("x86-sse4"))
    assert seen.missing == []
    assert seen.found["isa_flags"] == ["sse4_1"]
    assert seen.found["numpy"] == np.__version__


def test_probe_asks_this_machine_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert probe(load_profile("host")).missing == []
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libfoo.so')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    seen = probe(load_profile("host"))
    assert seen.found["onnxruntime"] is None
    assert seen.missing == ["onnxruntime cannot be imported: python -m pip install onnxruntime"]


def test_probe_names_the_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The answer of an H100's own nvidia-smi."""
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 580.159.04, 81559, 9.0, 345, 1980'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    found = probe(load_profile("host")).found
    assert (found["gpu_name"], found["gpu_sm"], found["gpu_driver"]) == ("NVIDIA H100 80GB HBM3", "9.0", "580.159.04")


def test_without_qemu_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"qemu-x86_64-static is not installed.*apt-get install -y qemu-user-static"):
        connect(load_profile("x86-avx2"))


def pretend_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulated, "find_qemu", lambda machine: f"qemu-{machine}-static")


def test_without_a_sysroot_the_command_that_builds_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend_qemu(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DeviceError, match=r"not built.*harness devices prepare jetson-orin"):
        connect(load_profile("jetson-orin", emulate=True))


def test_a_launcher_script_cannot_be_emulated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend_qemu(monkeypatch)
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexec python3\n")
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(DeviceError, match=r"is not an x86-64 program.*not with a launcher script"):
        connect(load_profile("x86-avx2"))


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sysroot:
    """A finished sysroot of one file and one link, written as a build ends."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sysroot = Sysroot.of(load_profile("jetson-orin", emulate=True).emulation)  # type: ignore[arg-type]
    (sysroot.root / "usr" / "bin").mkdir(parents=True)
    sysroot.python.write_bytes(b"python")
    (sysroot.root / "usr" / "bin" / "python3").symlink_to("python3.11")
    sysroot.seal()
    return sysroot


def test_boards_with_the_same_packages_share_a_sysroot(built: Sysroot) -> None:
    other = load_profile("raspberry-pi-4", emulate=True).emulation
    assert other is not None
    assert Sysroot.of(other) == built
    assert built.faults() == []


def test_every_damage_is_found(built: Sysroot) -> None:
    link = built.root / "usr" / "bin" / "python3"
    link.unlink()
    assert built.faults() == ["usr/bin/python3"]
    link.symlink_to("elsewhere")
    built.python.write_bytes(b"pythom")
    assert built.faults() == ["usr/bin/python3", "usr/bin/python3.11"]
    (built.folder / sysroots.MANIFEST).write_text("{")
    assert "cannot read" in built.faults()[0]


def test_prepare_leaves_a_whole_sysroot_and_rebuilds_a_damaged_one(built: Sysroot, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("devices.host.probe.find_qemu", lambda machine: machine)
    prepare(load_profile("jetson-orin"), said.append)
    assert said[-1] == "it is whole"
    built.python.unlink()
    monkeypatch.setenv("PATH", str(built.folder))  # no apt-get: the repair is begun, and says what it needs
    with pytest.raises(DeviceError, match="apt-get"):
        prepare(load_profile("jetson-orin"), said.append)
    assert any("usr/bin/python3.11; building it again" in line for line in said)
    assert not built.finished, "a build that was broken off is not taken for a finished one"


def test_two_builds_do_not_meet(built: Sysroot) -> None:
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", hold, str(built.folder / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(DeviceError, match="another process is building"):
        built.build(lambda _: None)
    assert built.finished
    holder.communicate()


@arm
def test_the_real_sysroot_is_whole() -> None:
    emulation = load_profile("raspberry-pi-4", emulate=True).emulation
    assert emulation is not None
    assert Sysroot.of(emulation).faults() == []


@arm
def test_probe_finds_the_pinned_packages() -> None:
    profile = load_profile("raspberry-pi-4", emulate=True)
    seen = probe(profile)
    assert seen.missing == []
    assert profile.emulation is not None
    assert {f"{name}=={seen.found[name]}" for name in ("numpy", "onnxruntime")} == set(profile.emulation.packages)
