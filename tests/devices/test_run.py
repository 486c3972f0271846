"""Whole jobs in real worker processes. A broken runtime is onnxruntime itself, broken from `sitecustomize` in the worker's process."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from devices.result import RESULT, Result
from devices.run import run_job
from onnx import helper

from devices.host.errors import DeviceError
from devices.host.pack import worker_archive
from devices.host.profile import load_profile
from devices.worker import to_input
from devices.worker.spec import Job, LatencyPlan, Options

HOST, NULL = load_profile("host"), load_profile("null")


def silent(step: str, done: int, total: int) -> None:
    pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "job"


@pytest.fixture
def break_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Run some code at the start of every worker."""

    def plant(code: str, module: str = "sitecustomize") -> None:
        (tmp_path / "planted").mkdir()
        (tmp_path / "planted" / f"{module}.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "planted"))

    return plant


def in_call(code: str) -> str:
    return f"import os, signal, time\nimport onnxruntime\ndef run(*_): {code}\nonnxruntime.InferenceSession.run = run\n"


def forbid_running(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr("devices.host.transports.local.Local.run", run)


def test_a_job_gives_logits_timings_memory_and_evidence(folder: Path, linear: Any, job_of: Callable[..., Job], images: np.ndarray) -> None:
    steps: list[tuple[str, int, int]] = []
    job = job_of(linear.path)
    result = run_job(HOST, job, folder, lambda *step: steps.append(step))
    assert (result.status, result.error, result.simulated) == ("ok", None, False)
    for name, shown in (("clean", images), ("noise", images[::-1][:4])):
        assert result.outputs[name].dtype == np.float32
        np.testing.assert_allclose(result.outputs[name], linear.logits(shown), atol=1e-5)
    assert sorted(result.timings) == [1, 3]
    for timing in result.timings.values():
        assert timing.latency_ns.dtype == timing.warmup_ns.dtype == np.int64
        assert timing.latency_ns.min() > 0
        assert timing.latency_ns.sum() >= 0.01e9, "0.02 s less what lies between the calls"
        assert timing.first_ns > 0
    assert result.load_ns is not None
    assert result.load_ns > 0
    assert result.baseline_bytes is not None
    assert result.peak_bytes is not None
    assert 1 << 20 < result.peak_bytes < 1 << 30
    assert result.checks is not None
    assert result.checks.timed_outputs_equal_accuracy_outputs
    assert result.checks.deterministic
    assert result.checks.graph_equal is True
    assert result.optimised_graph is not None
    assert (folder / RESULT / result.optimised_graph).stat().st_size > 0
    assert {
        "cpu_model",
        "isa_flags",
        "load_average_before",
        "steal_share",
        "governor",
        "threads",
        "affinity",
        "python",
    } <= result.environment.keys()
    assert 0 <= result.environment["others_share_before"] <= 1
    assert 0 <= result.environment["others_share_meanwhile"] <= 1
    assert result.options["intra_op_num_threads"] == 1
    assert steps[0] == ("load", 0, 1)
    assert steps[-1] == ("done", 1, 1)
    assert ("inference, clean", 7, 7) in steps
    assert all(done <= total for _, done, total in steps)


def test_a_batch_larger_than_the_set_takes_images_again(folder: Path, linear: Any, job_of: Callable[..., Job], images: np.ndarray) -> None:
    plan = LatencyPlan("clean", batches=(50,), measure_s=0.01, warmup_floor_s=0.0, warmup_cap_s=0.0)
    result = run_job(HOST, job_of(linear.path, images={"clean": images[:3]}, latency=plan), folder, silent)
    assert result.checks is not None
    assert result.checks.timed_outputs_equal_accuracy_outputs


def test_without_batches_nothing_is_timed_but_all_is_classified(folder: Path, linear: Any, job_of: Callable[..., Job]) -> None:
    result = run_job(HOST, job_of(linear.path, latency=LatencyPlan("clean", batches=())), folder, silent)
    assert (result.status, result.timings, sorted(result.outputs)) == ("ok", {}, ["clean", "noise"])


def test_division_is_the_twins_to_the_bit() -> None:
    from harness.data.dataset import to_tensor

    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    assert np.array_equal(to_input(every), to_tensor(every).numpy())
    assert to_input(every).flags.c_contiguous


# What is broken, the status, and what the error says.
BROKEN = {
    "native abort": (in_call("os.abort()"), "crashed", "SIGABRT in native code of onnxruntime, during step 'load'"),
    "killed for memory": (in_call("os.kill(os.getpid(), signal.SIGKILL)"), "crashed", "SIGKILL.*memory"),
    "leaves": (
        in_call("print('bye', file=__import__('sys').stderr, flush=True) or os._exit(7)"),
        "crashed",
        "exit code 7.*last words: bye",
    ),
    "raises": (in_call("1 / 0"), "crashed", "ZeroDivisionError: division by zero"),
    "hangs": (in_call("time.sleep(600)"), "hung", "said nothing for 3 s and was killed.*during step 'load'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_whatever_happens_to_the_worker_is_a_result(
    folder: Path, linear: Any, job_of: Callable[..., Job], break_runtime: Callable[..., None], name: str
) -> None:
    code, status, message = BROKEN[name]
    break_runtime(code)
    limit_s = 3.0 if status == "hung" else 60.0
    result = run_job(HOST, job_of(linear.path, silence_limit_s=limit_s), folder, silent)
    assert result.status == status
    assert result.error is not None
    assert "\n" not in result.error
    assert re.search(message, result.error), result.error
    assert Result.load(folder).status == status


def test_a_missing_runtime_is_refused_with_its_reason(
    folder: Path, linear: Any, job_of: Callable[..., Job], break_runtime: Callable[..., None]
) -> None:
    break_runtime("raise ImportError('libgomp.so.1: cannot open shared object file')", module="onnxruntime")
    result = run_job(HOST, job_of(linear.path), folder, silent)
    assert result.status == "refused"
    assert "cannot be imported on the device: libgomp.so.1" in str(result.error)


def truncated(path: Path, linear: Any, save: Callable[..., None]) -> None:
    path.write_bytes(linear.path.read_bytes()[:-100])


def foreign(path: Path, linear: Any, save: Callable[..., None]) -> None:
    save(path, linear.weight, linear.bias, tail=(helper.make_node("RunCode", ["gemm"], ["logits"], domain="com.example.foreign"),))


def not_onnx(path: Path, linear: Any, save: Callable[..., None]) -> None:
    path.write_text("not a model")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncated, "will not load the model"),
        (not_onnx, "will not load the model"),
        (foreign, "will not load the model.*RunCode"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_model_that_cannot_be_taken_is_refused(
    tmp_path: Path,
    folder: Path,
    linear: Any,
    job_of: Callable[..., Job],
    save_linear: Callable[..., None],
    spoil: Callable[..., None],
    message: str,
) -> None:
    spoil(tmp_path / "spoilt.onnx", linear, save_linear)
    result = run_job(HOST, job_of(tmp_path / "spoilt.onnx"), folder, silent)
    assert result.status == "refused"
    assert re.search(message, str(result.error)), result.error


def test_logits_of_another_shape_are_refused(
    tmp_path: Path, folder: Path, linear: Any, job_of: Callable[..., Job], save_linear: Callable[..., None]
) -> None:
    tail = (
        helper.make_node("Constant", [], ["axis"], value_ints=[1]),
        helper.make_node("Unsqueeze", ["gemm", "axis"], ["logits"]),
    )
    save_linear(tmp_path / "deep.onnx", linear.weight, linear.bias, tail=tail, output=["n", 1, 5])
    result = run_job(HOST, job_of(tmp_path / "deep.onnx"), folder, silent)
    assert (result.status, result.error) == ("refused", "the output for 3 images has shape (3, 1, 5); expected logits (3, classes)")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runtime": "tensorflow"}, "unknown runtime 'tensorflow'. Choices: onnxruntime, tensorrt, torch-tensorrt."),
        ({"options": Options("image", "logits", 1)}, "expected the one input 'image'"),
    ],
)
def test_a_job_the_worker_cannot_do_is_refused(
    folder: Path, linear: Any, job_of: Callable[..., Job], change: dict[str, object], message: str
) -> None:
    result = run_job(HOST, job_of(linear.path, **change), folder, silent)
    assert result.status == "refused"
    assert message in str(result.error)


@pytest.mark.parametrize("name", ["model.onnx", "inputs/noise.npy"])
def test_a_file_that_changed_on_the_way_is_refused(folder: Path, linear: Any, job_of: Callable[..., Job], name: str) -> None:
    job = job_of(linear.path)
    raw = bytearray((folder / name).read_bytes())
    raw[-1] ^= 1
    (folder / name).write_bytes(raw)
    result = run_job(HOST, job, folder, silent)
    assert result.status == "refused"
    assert f"{name} changed on the way" in str(result.error)


def test_logits_that_are_not_finite_are_their_own_status(
    tmp_path: Path, folder: Path, linear: Any, job_of: Callable[..., Job], save_linear: Callable[..., None], images: np.ndarray
) -> None:
    """log(x . w) with a weight that is negative for the brightest image only."""
    bright = np.full_like(images[:1], 255)
    weight, bias = np.full((48, 5), -1.0), np.full(5, 47.9)
    save_linear(tmp_path / "nan.onnx", weight, bias, tail=(helper.make_node("Log", ["gemm"], ["logits"]),))
    sets = {"clean": images, "bright": np.concatenate([images[:2], bright])}
    result = run_job(HOST, job_of(tmp_path / "nan.onnx", images=sets), folder, silent)
    assert result.status == "nan"
    assert "1 of 3 images of 'bright'" in str(result.error)
    assert "first at index 2" in str(result.error)
    assert np.isfinite(result.outputs["clean"]).all()


def test_a_finished_job_is_not_run_again(folder: Path, linear: Any, job_of: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_job(HOST, job_of(linear.path), folder, silent)
    forbid_running(monkeypatch)
    again = run_job(HOST, job_of(linear.path), folder, silent)
    assert np.array_equal(again.outputs["clean"], first.outputs["clean"])
    assert np.array_equal(again.timings[1].latency_ns, first.timings[1].latency_ns)
    assert again.checks == first.checks


def test_another_job_another_device_or_a_changed_result_is_run(
    folder: Path, linear: Any, job_of: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_job(NULL, job_of(linear.path), folder, silent)
    forbid_running(monkeypatch)
    run_job(NULL, job_of(linear.path), folder, silent)
    for profile, seed in ((HOST, 0), (NULL, 1)):
        with pytest.raises(AssertionError, match="a worker was started"):
            run_job(profile, job_of(linear.path, seed=seed), folder, silent)
    # The attempts took the old result away, so make one again and damage it.
    monkeypatch.undo()
    run_job(NULL, job_of(linear.path), folder, silent)
    (folder / RESULT / "outputs" / "clean.npy").write_bytes(b"")
    forbid_running(monkeypatch)
    with pytest.raises(AssertionError, match="a worker was started"):
        run_job(NULL, job_of(linear.path), folder, silent)


def test_a_crash_is_tried_again(
    folder: Path, linear: Any, job_of: Callable[..., Job], break_runtime: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_runtime(in_call("os.abort()"))
    assert run_job(HOST, job_of(linear.path), folder, silent).status == "crashed"
    monkeypatch.delenv("PYTHONPATH")
    assert run_job(HOST, job_of(linear.path), folder, silent).status == "ok"


def test_the_null_device_gives_the_same_bytes_twice(tmp_path: Path, linear: Any, job_of: Callable[..., Job], images: np.ndarray) -> None:
    bytes_of: list[dict[str, bytes]] = []
    for run in ("one", "two"):
        plan = LatencyPlan("clean")
        result = run_job(NULL, job_of(linear.path, tmp_path / run, latency=plan), tmp_path / run, silent)
        assert result.simulated
        assert result.status == "ok"
        np.testing.assert_allclose(result.outputs["clean"], linear.logits(images), atol=1e-5)
        inside = tmp_path / run / RESULT
        bytes_of.append({str(path.relative_to(inside)): path.read_bytes() for path in inside.rglob("*") if path.is_file()})
    assert bytes_of[0] == bytes_of[1]
    assert len(bytes_of[0]) == 1 + 2 + 3 + 1, "result.json, outputs, timings, graph"


def test_a_worker_whose_harness_was_killed_ends_and_leaves_no_result(folder: Path, linear: Any, job_of: Callable[..., Job]) -> None:
    long = LatencyPlan("clean", batches=(1,), measure_s=60.0)
    replace(job_of(linear.path, latency=long), device="host").save(folder)
    (folder / "worker.pyz").write_bytes(worker_archive())
    worker = subprocess.Popen([sys.executable, "worker.pyz", "."], cwd=folder, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert json.loads(worker.stdout.readline())["step"] == "load"
    worker.stdout.close()
    started = time.monotonic()
    assert worker.wait(timeout=30) == 1
    assert time.monotonic() - started < 20
    assert not (folder / RESULT).exists()


def test_an_interrupted_run_leaves_no_worker(folder: Path, linear: Any, job_of: Callable[..., Job]) -> None:
    pids: list[int] = []

    def interrupt(step: str, done: int, total: int) -> None:
        if step.startswith("latency"):
            pids.extend(int(path.name) for path in Path("/proc").glob("[0-9]*") if _runs_in(path, folder))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(HOST, job_of(linear.path, latency=LatencyPlan("clean", batches=(1,), measure_s=60.0)), folder, interrupt)
    assert len(pids) == 2, "the worker and its sampler"
    deadline = time.monotonic() + 10
    while any(map(_alive, pids)):
        assert time.monotonic() < deadline, "left running"
        time.sleep(0.01)
    assert not (folder / RESULT).exists()


def _alive(pid: int) -> bool:
    """Whether a process still runs; one that ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _runs_in(process: Path, folder: Path) -> bool:
    try:
        return (process / "cwd").readlink() == folder.resolve()
    except OSError:
        return False


def test_only_an_unreachable_device_is_an_error(
    folder: Path, linear: Any, job_of: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devices.host.transports.local.Local.python", ("no-such-python",))
    with pytest.raises(DeviceError, match="cannot run no-such-python"):
        run_job(HOST, job_of(linear.path), folder, silent)
