"""TensorRT's builder in a process of its own, with NVIDIA's own builder (TensorRT for RTX, ahead of time: no GPU needed)."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onnx import helper

from devices.worker import build
from devices.worker.build import build_apart
from devices.worker.environment import resident_bytes
from devices.worker.errors import BuildError
from devices.worker.plan import verify_plan
from devices.worker.tensorrt import BuildOptions

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'edge-harness[aot]'")
AHEAD = BuildOptions(batches=(1, 2, 4), target="sm86")


def quiet(step: str, done: int, total: int) -> None:
    pass


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_the_builders_memory_is_not_this_processs(linear: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan is sealed and whole; what building took stays with a process that is gone."""
    monkeypatch.setattr(build, "_CHILD", f"{build._CHILD}; {PEAK}")
    monkeypatch.setenv("PEAK", str(tmp_path / "peak"))
    loaded, before = set(sys.modules), resident_bytes(peak=False)
    steps: list[tuple[str, int, int]] = []
    build_apart(linear.path, tmp_path / "engine.plan", AHEAD, lambda *step: steps.append(step))
    assert len(steps) > 2 and steps[-1][1] <= steps[-1][2] and all(phase == steps[0][0] for phase, _, _ in steps)
    plan = verify_plan(tmp_path / "engine.plan")
    assert (plan.target, plan.options["batches"]) == ("sm86", [1, 2, 4])
    assert not {name for name in set(sys.modules) - loaded if name.startswith("tensorrt")}
    grown, taken = (resident_bytes(peak=False) or 0) - (before or 0), int((tmp_path / "peak").read_text())
    assert grown < 8 << 20 < 64 << 20 < taken


PEAK = (
    "import os, pathlib; from devices.worker.environment import resident_bytes; "
    "pathlib.Path(os.environ['PEAK']).write_text(str(resident_bytes(peak=True)))"
)


def test_a_refusal_comes_in_the_builders_own_words(linear: Any, tmp_path: Path, save_linear: Callable[..., None]) -> None:
    foreign = helper.make_node("Twist", ["gemm"], ["logits"], domain="com.example.foreign", name="twist")
    save_linear(tmp_path / "foreign.onnx", linear.weight, linear.bias, tail=(foreign,))
    with pytest.raises(BuildError, match=r"TensorRT for RTX .* rejects foreign.onnx at node 'twist'.*harness lint"):
        build_apart(tmp_path / "foreign.onnx", tmp_path / "engine.plan", AHEAD, quiet)
    assert not (tmp_path / "engine.plan").exists()


def test_a_builder_that_is_killed_is_told(linear: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_CHILD", f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})")
    with pytest.raises(BuildError, match="ended by signal 9; the system does that where memory runs out"):
        build_apart(linear.path, tmp_path / "engine.plan", AHEAD, quiet)


def test_a_builder_does_not_outlive_its_caller(linear: Any, tmp_path: Path) -> None:
    """Killed while the builder waits: its input ends, and so does it."""
    code = f"""
import sys
from pathlib import Path
from devices.worker import build
build._CHILD = "import json, os, sys, time; sys.path[:] = json.loads(sys.argv[1]); from devices.worker.caller import end_with_caller; " \\
    "end_with_caller(0); os.write(2, b'%d\\\\n' % os.getpid()); time.sleep(60)"
build.build_apart(Path({str(linear.path)!r}), Path({str(tmp_path / "engine.plan")!r}), build.BuildOptions(), print)
"""
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as caller:
        assert caller.stderr is not None
        child = int(caller.stderr.readline())
        caller.kill()
    for _ in range(100):
        stat = Path(f"/proc/{child}/stat")
        if not stat.exists() or ") Z " in stat.read_text():  # gone, or nobody has asked for its code yet
            return
        time.sleep(0.1)
    pytest.fail("the builder is still there")
