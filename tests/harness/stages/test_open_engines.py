"""The engines of a run: which there are, that they are open side by side, and that one which will not open is a result of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from quick_engines import CLASSES, Linear, make_linear, some_images

from devices.host.profile import DeviceProfile, load_profile
from devices.host.session import EngineError, EngineId
from devices.worker.spec import EngineSpec
from export.artefact import Artefact, sha256_file
from harness.records import Parity
from harness.settings import TIERS, Settings, engine_name
from harness.stages.engines import Engine, check_fit, open_engines, plan_engines, started_here
from harness.stages.export import Exported

PARITY = Parity(n=1, max_logit_error=0, top1_agreement=1, passed=True, limit="")


def exported(path: Path, flavour: str, precision: str = "fp32", runtime: str = "onnxruntime") -> Exported:
    artefact = Artefact(
        flavour, path, sha256_file(path), "0" * 64, "0" * 64, precision, runtime, "input", (3, 4, 4), "logits", CLASSES, {}, {}
    )
    return Exported(artefact, PARITY)


def subject(profile: DeviceProfile, shape: tuple[int, int, int] = (3, 4, 4), classes: int = CLASSES) -> Any:
    return SimpleNamespace(profile=profile, twin=SimpleNamespace(input_shape=shape, classes=classes))


def settings(*flavours: str, **more: Any) -> Settings:
    return Settings(model="m", flavours=flavours, device="null", batches=(), threads=1, **more)


@pytest.fixture
def linear(tmp_path: Path) -> Linear:
    return make_linear(tmp_path)


def names(engines: list[Engine]) -> list[str]:
    return [engine.name for engine in engines]


def test_one_engine_for_each_flavour_and_build_in_the_order_asked_for(linear: Linear) -> None:
    parts = [exported(linear.path, "onnx-fp32"), exported(linear.path, "ort-int8", "int8")]
    null = subject(load_profile("null"))
    assert names(plan_engines(null, settings("ort-int8", "onnx-fp32", "ort-int8"), parts)) == ["ort-int8", "onnx-fp32"]
    twice = plan_engines(null, settings("ort-int8", "onnx-fp32", builds=2), parts)
    assert names(twice) == ["ort-int8", "ort-int8#2", "onnx-fp32", "onnx-fp32#2"]
    assert [engine.own_graph for engine in twice] == [True, True, False, False]
    assert {engine.runtime for engine in twice} == {"onnxruntime"} and not any(engine.simulated for engine in twice)


def test_where_a_runtime_builds_the_same_engine_each_time_later_ones_have_other_settings_and_are_not_timed(
    linear: Linear, tmp_path: Path
) -> None:
    parts, null = [exported(linear.path, "onnx-fp32")], subject(load_profile("null"))
    wanted = settings("onnx-fp32", builds=5).model_copy(update={"threads": 4, "batches": (1,)})
    with open_engines(plan_engines(null, wanted, parts), null, wanted, tmp_path / "run", print) as opened:
        told = [session.loaded.options for session in opened.sessions.values()]
        plans = [session.plan_sha256 for session in opened.sessions.values()]
    assert [(o["intra_op_num_threads"], o["graph_optimization_level"]) for o in told] == [
        (4, "ORT_ENABLE_ALL"), (2, "ORT_ENABLE_ALL"), (4, "ORT_ENABLE_EXTENDED"), (2, "ORT_ENABLE_EXTENDED"), (4, "ORT_ENABLE_ALL"),
    ]  # fmt: skip
    assert len(set(plans)) == 4, "what ran is known by its settings"
    specs = [EngineSpec.load(tmp_path / "run" / "engines" / "device" / engine) for engine in opened.sessions]
    assert [spec.timed for spec in specs] == [True, False, False, False, False]


def test_qualification_builds_three_unless_told_otherwise(linear: Linear) -> None:
    parts, null = [exported(linear.path, "onnx-fp32")], subject(load_profile("null"))
    counts = {tier: len(plan_engines(null, settings("onnx-fp32", tier=tier), parts)) for tier in TIERS}
    assert counts == {"quick": 1, "bench": 1, "qualify": 3}
    assert len(plan_engines(null, settings("onnx-fp32", tier="qualify", builds=1), parts)) == 1


def test_a_runtime_that_builds_anew_is_told_the_same_each_time(linear: Linear) -> None:
    (part,) = [exported(linear.path, "trt-int8", "int8", "tensorrt")]
    assert [engine.variant for engine in plan_engines(subject(load_profile("jetson-orin")), settings("trt-int8", builds=3), [part])] == [
        0
    ] * 3


def test_of_an_emulated_gpu_this_computer_stands_in_for_one_build(linear: Linear) -> None:
    orin = load_profile("jetson-orin", emulate=True)
    parts = [exported(linear.path, "trt-int8", "int8", "tensorrt"), exported(linear.path, "onnx-fp32")]
    planned = plan_engines(subject(orin), settings("trt-int8", "onnx-fp32", builds=3), parts)
    assert [(e.name, e.simulated) for e in planned][:2] == [("trt-int8", True), ("onnx-fp32", False)]


def test_the_users_own_engine_has_a_name_that_a_file_may_have(linear: Linear) -> None:
    (own,) = plan_engines(subject(load_profile("null")), settings("exec:/opt/my engine --fast"), [])
    assert (own.runtime, own.exported, own.own_graph) == ("exec", None, False)
    assert own.name == engine_name("exec:/opt/my engine --fast") == "exec-opt-my-engine---fast"


def test_all_are_open_at_once_and_answer_for_themselves(linear: Linear, tmp_path: Path) -> None:
    other = make_linear(tmp_path, seed=2)
    parts = [exported(linear.path, "onnx-fp32"), exported(other.path, "ort-int8", "int8")]
    wanted, null = settings("onnx-fp32", "ort-int8", builds=2), subject(load_profile("null"))
    images = some_images(5)
    with open_engines(plan_engines(null, wanted, parts), null, wanted, tmp_path / "run", print) as opened:
        assert list(opened.sessions) == ["onnx-fp32", "onnx-fp32#2", "ort-int8", "ort-int8#2"] and not opened.failed
        for name, session in reversed(opened.sessions.items()):
            expected = (linear if name.startswith("onnx") else other).logits(images)
            np.testing.assert_allclose(session.logits(images), expected, atol=1e-4)
        left = list(opened.sessions.values())
    for session in left:
        with pytest.raises(ValueError, match="is closed"):
            session.logits(images)


def test_one_that_will_not_open_is_a_result_and_stops_no_other(linear: Linear, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(linear.path.read_bytes()[:-40])
    parts = [exported(damaged, "ort-int8", "int8"), exported(linear.path, "onnx-fp32")]
    wanted, null, said = settings("ort-int8", "onnx-fp32"), subject(load_profile("null")), []
    with open_engines(plan_engines(null, wanted, parts), null, wanted, tmp_path / "run", said.append) as opened:
        assert list(opened.sessions) == ["onnx-fp32"] and list(opened.failed) == ["ort-int8"]
        assert opened.sessions["onnx-fp32"].logits(some_images(2)).shape == (2, CLASSES)
    assert len(said) == 1 and said[0].startswith(f"ort-int8: {opened.failed['ort-int8'].status}: ")


OTHERS = {
    "other images": ((3, 8, 8), CLASSES, r"takes images of \(4, 4, 3\).* the model \(8, 8, 3\)"),
    "other classes": ((3, 4, 4), 7, "names 5 classes.* 7"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_an_engine_for_other_images_or_classes_is_refused(case: str, tmp_path: Path) -> None:
    shape, classes, message = OTHERS[case]
    engine = tmp_path / "engine.py"
    engine.write_text(
        "import json, sys\n"
        "hello = {'protocol': 1, 'name': 'mine', 'version': '1', 'shape': [4, 4, 3], 'classes': 5, 'output': 'logits'}\n"
        "print(json.dumps(hello), flush=True)\n"
        "sys.stdin.buffer.read()\n"
    )
    wanted, null = settings(f"exec:{sys.executable} {engine}"), subject(load_profile("null"), shape, classes)
    with open_engines(plan_engines(null, wanted, []), null, wanted, tmp_path / "run", print) as opened:
        ((_, error),) = opened.failed.items()
    assert not opened.sessions and error.status == "refused"
    session: Any = SimpleNamespace(shape=(4, 4, 3), hello=SimpleNamespace(classes=CLASSES), id=EngineId("mine"))
    with pytest.raises(EngineError, match=message):
        check_fit(session, null)


@pytest.mark.parametrize(
    ("device", "emulate", "told"), [("raspberry-pi-4", True, True), ("raspberry-pi-4", False, True), ("host", False, False)]
)
def test_an_own_engine_is_said_to_run_here_where_the_device_is_another(device: str, emulate: bool, told: bool, tmp_path: Path) -> None:
    said: list[str] = []
    wanted, other = settings(f"exec:{sys.executable} -c pass"), subject(load_profile(device, emulate=emulate))
    (own,) = plan_engines(other, wanted, [])
    with open_engines([own], other, wanted, tmp_path / "run", said.append):
        pass
    assert ("was started on this computer, not on raspberry-pi-4: its answers and times" in said[0]) is told
    assert bool(started_here(own, other.profile)) is told


def test_what_is_told_after_opening_is_not_shown(monkeypatch, capsys):
    """A worker that is started again loads its engine again; that is no step of the run."""
    from harness import progress
    from harness.stages.engines import Steps

    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.0)
    with Steps("ort-int8") as steps:
        steps("load", 0, 2)
        assert "ort-int8: load: 0/2" in capsys.readouterr().err
    capsys.readouterr()  # the seconds, shown meanwhile
    steps("load", 0, 2)
    assert capsys.readouterr().err == ""
