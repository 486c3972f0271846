"""The TensorRT engine where there is no GPU: what it says then, that it loads nothing foreign, and the order of its calls on a stand-in.

On a GPU the table in tests/contracts runs the real one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import standin_tensorrt
from onnx import TensorProto, helper, numpy_helper

from devices.host.session import EngineError
from devices.host.transports.local import Local
from devices.worker import build as build_module
from devices.worker import cuda
from devices.worker.engines import NotRunError, RefusedError
from devices.worker.engines import tensorrt as engine_module
from devices.worker.engines.tensorrt import TensorRt
from devices.worker.engines.torch_tensorrt import TorchTensorRt
from devices.worker.errors import BuildError
from devices.worker.files import sha256_file
from devices.worker.plan import TensorrtPlan
from devices.worker.spec import RuntimeOptions
from devices.worker.tensorrt import BuildOptions, load_library

SHAPE, CLASSES = (2, 3, 5), 4
WEIGHT = np.random.default_rng(0).normal(size=(30, CLASSES)).astype(np.float32)
OPTIONS = RuntimeOptions("picture", "scores", threads=1, batches=(1, 2, 4))


def has_driver() -> bool:
    try:
        cuda.Cuda().close()
    except cuda.DriverError:
        return False
    return True


def has(*, ahead: bool) -> bool:
    try:
        load_library(ahead=ahead)
    except BuildError:
        return False
    return True


without_gpu = pytest.mark.skipif(has_driver(), reason="there is a GPU here: tests/contracts runs the real engine")
ahead_of_time = pytest.mark.skipif(not has(ahead=True), reason="TensorRT for RTX is not installed: pip install 'edge-harness[aot]'")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["picture"], ["flat"]), helper.make_node("Gemm", ["flat", "weight"], ["scores"], name="gemm")],
        "linear",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["n", *SHAPE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(WEIGHT, "weight")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "linear.onnx")
    return tmp_path / "linear.onnx"


@without_gpu
@ahead_of_time
def test_without_a_gpu_it_says_what_was_built_and_what_was_not_run(model: Path) -> None:
    engine, steps = TensorRt(), []
    engine.watch = lambda *step: steps.append(step)
    with pytest.raises(NotRunError, match=r"built ahead of time for sm86 by tensorrt_rtx .* not run: there is no NVIDIA driver.*JetPack"):
        engine.load(model, OPTIONS)
    assert steps[0][0] == "build (Building engine)" and len(steps) > 2
    assert model.with_suffix(".sm86.plan").stat().st_size > 1000


@without_gpu
@ahead_of_time
def test_a_session_without_a_gpu_ends_as_built_and_a_rejected_network_as_refused(
    linear: Any, tmp_path: Path, session_of: Any, save_linear: Callable[..., None]
) -> None:
    with pytest.raises(EngineError, match="not run") as caught, session_of(linear.path, runtime="tensorrt", flavour="trt-fp32"):
        pass
    assert caught.value.status == "built"

    foreign = helper.make_node("Twist", ["gemm"], ["logits"], domain="com.example.foreign", name="twist")
    save_linear(tmp_path / "foreign.onnx", linear.weight, linear.bias, tail=(foreign,))
    with (
        pytest.raises(EngineError, match=r"rejects.*twist|twist.*rejects") as caught,
        session_of(tmp_path / "foreign.onnx", runtime="tensorrt", flavour="trt-fp32"),
    ):
        pass
    assert caught.value.status == "refused"


@pytest.mark.parametrize(
    ("runtime", "words"), [("tensorrt", ("JetPack", "edge-harness[tensorrt]")), ("torch-tensorrt", ("torch_tensorrt", "pip install"))]
)
def test_a_worker_without_tensorrt_names_what_brings_it(
    runtime: str, words: tuple[str, ...], linear: Any, tmp_path: Path, session_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Python with numpy alone, as on a board before JetPack's packages are there."""
    site = tmp_path / "site"
    site.mkdir()
    where = Path(np.__file__).parent
    for part in (where, where.with_name("numpy.libs")):
        if part.exists():
            (site / part.name).symlink_to(part)
    monkeypatch.setattr(Local, "python", ("env", f"PYTHONPATH={site}", sys.executable, "-S"))
    with pytest.raises(EngineError) as caught, session_of(linear.path, runtime=runtime):
        pass
    assert caught.value.status == "refused"
    assert all(word in str(caught.value) for word in words)


@without_gpu
def test_torch_tensorrt_without_a_gpu_says_so(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="no NVIDIA GPU"):
        TorchTensorRt().load(tmp_path / "any.pt2", OPTIONS)


@pytest.fixture
def standin(standin_driver: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The engine's module, on a driver and a library that compute on the host. The builder packs the ONNX file into its "plan"."""

    def build(file: Path, out: Path, options: BuildOptions, watch: Any) -> None:
        watch("Building engine", 1, 6)
        out.write_bytes(b"plan:" + file.read_bytes())
        told = {"tf32": False, "sparse": options.sparse, "batches": list(options.batches)}
        version = standin_tensorrt.__version__
        plan = TensorrtPlan(
            out, sha256_file(out), sha256_file(file), "tensorrt", version, "gpu", told, layers=1, seconds=0.1, warnings=("none",)
        )
        plan.save()
        built.append(out)
        caches.append(options.timing_cache)

    built: list[Path] = []
    caches: list[Path | None] = []
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(cuda, "LIBRARY", str(standin_driver))
    monkeypatch.setattr(engine_module, "load_library", lambda: standin_tensorrt)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(engine_module, "build_apart", build)
    engine_module.built, engine_module.caches = built, caches  # type: ignore[attr-defined]
    return engine_module


def images(n: int) -> np.ndarray:
    return np.random.default_rng(n).random((n, *SHAPE), np.float32)


@pytest.mark.parametrize("n", [1, 4, 5, 11])
def test_calls_reach_the_engine_in_order_and_in_pieces_that_it_takes(standin: ModuleType, model: Path, n: int) -> None:
    engine = TensorRt()
    told = engine.load(model, OPTIONS)
    batch = images(n)
    np.testing.assert_allclose(engine.infer(batch), batch.reshape(n, -1) @ WEIGHT, atol=1e-4)
    assert told.parts is not None
    parts = told.parts()
    assert set(parts) == {"host_to_device", "compute", "device_to_host"}
    assert parts["compute"] > 0
    engine.close()


def test_answers_are_the_callers_to_keep(standin: ModuleType, model: Path) -> None:
    engine = TensorRt()
    engine.load(model, OPTIONS)
    first = engine.infer(images(2))
    kept = first.copy()
    engine.infer(images(2) * 0)
    assert np.array_equal(first, kept)
    engine.close()


def test_it_tells_what_it_built_and_on_what(standin: ModuleType, model: Path) -> None:
    engine = TensorRt()
    told = engine.load(model, OPTIONS)
    assert told.version == "10.3.0"
    assert told.options["plan_sha256"] == sha256_file(standin.built[0])
    assert told.options["gpu"] == "Stand-in GPU"
    assert told.options["build"] == {"tf32": False, "sparse": False, "batches": [1, 2, 4]}
    assert told.build_ns > 0
    engine.close()


def test_the_same_engine_is_built_once_and_again_where_anything_differs(standin: ModuleType, model: Path) -> None:
    def load(options: RuntimeOptions = OPTIONS) -> int:
        engine = TensorRt()
        told = engine.load(model, options)
        engine.close()
        return told.build_ns

    assert load() > 0
    assert load() == 0
    assert load(replace(OPTIONS, sparse=True)) > 0
    assert load(replace(OPTIONS, batches=(1, 1, 4))) > 0
    assert load(replace(OPTIONS, build=1)) > 0
    assert len(standin.built) == 4


def test_a_second_run_builds_nothing_and_the_builds_of_one_share_no_kernel_times(
    standin: ModuleType, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another folder, as every run has; another model of the same board takes the times, another build or board does not."""

    def load(file: Path, build: int = 0) -> int:
        engine = TensorRt()
        told = engine.load(file, replace(OPTIONS, build=build))
        engine.close()
        return told.build_ns

    again, other = tmp_path / "again" / "model.onnx", tmp_path / "other.onnx"
    again.parent.mkdir()
    again.write_bytes(model.read_bytes())
    changed = onnx.load(model)
    changed.doc_string = "another"
    onnx.save(changed, other)
    assert load(model) > 0 and load(model, 1) > 0
    assert load(again) == load(again, 1) == 0
    assert load(other) > 0
    monkeypatch.setattr(engine_module.Reader, "text", lambda reader, path: "another board")
    assert load(model) > 0
    first, second, of_other, elsewhere = standin.caches
    assert first == of_other and len({first, second, elsewhere}) == 3


def test_a_build_tells_of_its_progress(standin: ModuleType, model: Path) -> None:
    engine, steps = TensorRt(), []
    engine.watch = lambda *step: steps.append(step)
    engine.load(model, OPTIONS)
    engine.close()
    assert steps == [("build (Building engine)", 1, 6)]


def test_no_more_plans_are_kept_than_said(standin: ModuleType, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "KEPT", 2)
    for build in range(4):
        engine = TensorRt()
        engine.load(model, replace(OPTIONS, build=build))
        engine.close()
    assert [path.exists() for path in standin.built].count(True) == 2
    assert standin.built[-1].exists()


def test_a_plan_from_elsewhere_is_never_loaded(standin: ModuleType, model: Path) -> None:
    """Native code in a file that lies where ours would: it is built over, not deserialised."""
    TensorRt().load(model, OPTIONS)
    standin.built[0].write_bytes(b"plan:foreign")
    engine = TensorRt()
    assert engine.load(model, OPTIONS).build_ns > 0
    np.testing.assert_allclose(engine.infer(images(2)), images(2).reshape(2, -1) @ WEIGHT, atol=1e-4)
    engine.close()


@pytest.mark.parametrize("batch", ["n", 1, 3])
@pytest.mark.parametrize("n", [1, 3, 4, 11])
def test_a_plan_of_the_users_own_runs_as_it_is(standin: ModuleType, model: Path, batch: int | str, n: int) -> None:
    """Nothing is built; its names and its batch, free or fixed, are read from the plan itself."""
    graph = onnx.load(model)
    for value in (*graph.graph.input, *graph.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        first.Clear()
        if isinstance(batch, int):
            first.dim_value = batch
    mine = model.with_name("mine.engine")
    mine.write_bytes(b"plan:" + graph.SerializeToString())
    engine = TensorRt()
    told = engine.load(mine, replace(OPTIONS, input_name="", output_name="", batches=(1, 8, 32)))
    assert (told.options["plan_sha256"], told.build_ns, standin.built) == (sha256_file(mine), 0, [])
    np.testing.assert_allclose(engine.infer(images(n)), images(n).reshape(n, -1) @ WEIGHT, atol=1e-4)
    with pytest.raises(RefusedError, match="takes images of 2x3x5, the model 2x5x3"):
        engine.infer(images(2).reshape(2, 2, 5, 3))
    engine.close()


def test_a_plan_for_another_gpu_is_refused_in_tensorrts_words(standin: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "mine.plan").write_bytes(b"of another GPU")
    with pytest.raises(RefusedError, match=r"cannot load this plan; one runs on the GPU and version it was built for: The engine cannot"):
        TensorRt().load(tmp_path / "mine.plan", replace(OPTIONS, input_name="", output_name=""))


def test_an_engine_that_the_gpu_cannot_run_is_refused_in_tensorrts_words(
    standin: ModuleType, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT for RTX 1.7 builds on a GPU that it does not know (an H100), and only then says so."""
    for _ in range(2):  # the words of an earlier refusal are not said again
        monkeypatch.setattr(TensorrtPlan, "read", lambda plan: b"of another GPU")
        with pytest.raises(RefusedError, match=r"tensorrt 10\.3\.0 cannot load .*: The engine cannot run on this GPU[^;]*9\.0$"):
            TensorRt().load(model, OPTIONS)


@pytest.mark.parametrize("options", [replace(OPTIONS, input_name="image"), replace(OPTIONS, output_name="logits")])
def test_a_name_the_engine_does_not_have_is_refused(standin: ModuleType, model: Path, options: RuntimeOptions) -> None:
    with pytest.raises(RefusedError, match="expected input"):
        TensorRt().load(model, options)


def test_its_layers_and_their_times_are_written_for_the_evidence(standin: ModuleType, model: Path, tmp_path: Path) -> None:
    from export.artefact import Artefact
    from export.evidence_tensorrt import tensorrt_evidence

    engine = TensorRt()
    engine.load(model, OPTIONS, tmp_path / "optimised.onnx")
    assert np.isfinite(engine.infer(images(2))).all()
    engine.close()
    written = json.loads((tmp_path / "optimised.json").read_text())
    assert written["profile"] == [{"count": 20}, {"name": "gemm", "averageMs": 0.5}]
    claimed = Artefact("trt-int8", model, "", "", "", "int8", "tensorrt", "picture", SHAPE, "scores", CLASSES, {}, {})
    given = replace(claimed, precision="unknown", path=tmp_path / "mine.plan")
    assert (tensorrt_evidence(tmp_path / "optimised.json", given).label) == "int8"
    found = tensorrt_evidence(tmp_path / "optimised.json", claimed)
    assert (found.label, found.shares["int8"].time, found.shares["int8"].macs) == ("int8", 1.0, 1.0)
