"""The builder, with NVIDIA's own parser and builder (TensorRT for RTX, ahead of time: no GPU needed)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import nn

from devices.worker import tensorrt
from devices.worker.errors import BuildError
from devices.worker.tensorrt import TARGETS, BuildOptions, RejectedError, build_plan, build_plans, load_library, verify_plan
from export.flavours import FLAVOURS, export_flavour
from export.lint import rule_for

trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'edge-harness[aot]'")

AHEAD = BuildOptions(target="sm86")
TRT = [name for name, flavour in FLAVOURS.items() if flavour.runtime == "tensorrt"]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(scope="module")
def artefacts(network: nn.Module, images: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`network`, 2:4 sparse, as every flavour for TensorRT."""
    module = deepcopy(network)
    for layer in (module[5], module[9]):
        layer.weight.data[:, 1::4] = layer.weight.data[:, 2::4] = 0
    folder = tmp_path_factory.mktemp("flavours")
    arguments = {"input_shape": (3, 12, 8), "source_sha256": "0" * 64, "calibration_images": images, "calibration_method": "minmax"}
    fp32 = export_flavour(module, "onnx-fp32", folder=folder, **arguments)
    return {name: export_flavour(module, name, folder=folder, cache_fp32=fp32, **arguments).path for name in TRT}


@pytest.mark.parametrize("flavour", TRT)
def test_every_flavour_is_built(flavour: str, artefacts: dict[str, Path], tmp_path: Path) -> None:
    sparse = bool(FLAVOURS[flavour].options.get("sparse"))
    phases: list[tuple[str, int, int]] = []
    options = BuildOptions((1, 4, 16), sparse=sparse, target="sm86", workspace_bytes=1 << 26)
    plan = build_plan(artefacts[flavour], tmp_path / "engine.plan", options, watch=lambda *step: phases.append(step))
    assert plan.path.read_bytes()[:4] == b"vtrt"  # an engine of TensorRT for RTX
    assert (plan.library, plan.version, plan.target) == ("tensorrt_rtx", trt.__version__, "sm86")
    assert plan.options == {
        "strongly_typed": True, "tf32": False, "sparse": sparse, "batches": [1, 4, 16], "workspace_bytes": 1 << 26, "timing_cache": False
    }  # fmt: skip
    assert plan.layers > 5
    assert verify_plan(plan.path) == plan
    assert phases
    assert all(0 < done <= total for _, done, total in phases)


@pytest.mark.parametrize("target", TARGETS)
def test_every_target(target: str, artefacts: dict[str, Path], tmp_path: Path) -> None:
    plan = build_plan(artefacts["trt-int8"], tmp_path / "engine.plan", BuildOptions(target=target))
    assert (plan.target, verify_plan(plan.path)) == (target, plan)


@pytest.mark.parametrize("flavour", ["trt-fp32", "trt-int8-fp32"])
def test_turing_has_no_float32_matrix_product(flavour: str, artefacts: dict[str, Path], tmp_path: Path) -> None:
    """What the builder itself refuses, after a graph that the parser takes, comes in its own words."""
    with pytest.raises(RejectedError, match=r"for Turing \(SM75\): FP32 GEMM is not supported"):
        build_plan(artefacts[flavour], tmp_path / "engine.plan", BuildOptions(target="sm75"))


def test_several_builds(artefacts: dict[str, Path], tmp_path: Path) -> None:
    """Each has its own file and manifest; whether they are equal is for their hashes to say."""
    plans = build_plans(artefacts["trt-fp32"], tmp_path, AHEAD, count=3)
    stem = artefacts["trt-fp32"].stem
    assert [plan.path.name for plan in plans] == [f"{stem}-sm86.plan", f"{stem}-sm86-2.plan", f"{stem}-sm86-3.plan"]
    assert [verify_plan(plan.path) for plan in plans] == plans
    assert len({plan.onnx_sha256 for plan in plans}) == 1


def test_int8_weights_are_stored_as_such(artefacts: dict[str, Path], tmp_path: Path) -> None:
    """The network's types are the file's: the parser's layers hold INT8 and float16 where the flavour says so."""
    for flavour, kinds in (
        ("trt-fp32", {"FLOAT"}),
        ("trt-fp16", {"FLOAT", "HALF"}),
        ("trt-int8-fp32", {"FLOAT", "INT8"}),
        ("trt-int8", {"FLOAT", "HALF", "INT8"}),
    ):
        log = trt.Logger(trt.Logger.ERROR)
        network = trt.Builder(log).create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        assert trt.OnnxParser(network, log).parse(artefacts[flavour].read_bytes())
        layers = [network.get_layer(index) for index in range(network.num_layers)]
        found = {layer.get_output(0).dtype.name for layer in layers} - {"INT32", "INT64", "BOOL"}
        assert found == kinds


Change = Callable[[ModelProto], None]


def quantized_bias(model: ModelProto) -> None:
    """As onnxruntime's kernels want it."""
    layer = next(node for node in model.graph.node if node.op_type == "Gemm")
    stored = numpy_helper.from_array(np.zeros(5, np.int32), "b_q"), numpy_helper.from_array(np.full(5, 0.01, np.float32), "b_s")
    model.graph.initializer.extend(stored)
    position = list(model.graph.node).index(layer)
    model.graph.node.insert(position, helper.make_node("DequantizeLinear", ["b_q", "b_s"], ["b"], "bias_dequantize", axis=0))
    model.graph.node[position + 1].input[2] = "b"


def zero_points(value: np.generic) -> Change:
    def change(model: ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.name.endswith("_zero_point") and not tensor.dims:
                tensor.CopyFrom(numpy_helper.from_array(np.asarray(value), tensor.name))

    return change


def unknown_operator(model: ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Swoosh"


def free_height(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


def saved(path: Path, model: ModelProto) -> Path:
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("change", "words", "node"),
    [
        (quantized_bias, "input has type Int32 but must have type", "bias_dequantize"),
        (zero_points(np.uint8(128)), "Non-zero zero point is not supported", "QuantizeLinear"),
        (zero_points(np.int8(3)), "Non-zero zero point is not supported", "QuantizeLinear"),
        (unknown_operator, "Plugin not found", "relu"),
    ],
    ids=["INT32 bias", "UINT8", "zero point", "operator"],
)
def test_the_parser_s_own_words(change: Change, words: str, node: str, artefacts: dict[str, Path], tmp_path: Path) -> None:
    """With the node, where to look, and the lint rule that catches it; and nothing is left behind."""
    model = onnx.load(artefacts["trt-int8"])
    change(model)
    path = saved(tmp_path / "planted.onnx", model)
    with pytest.raises(RejectedError, match=words) as caught:
        build_plan(path, tmp_path / "out" / "engine.plan", AHEAD)
    assert node in caught.value.node
    assert f"harness lint {path} --target tensorrt" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (rule_for(caught.value.words) or "").startswith("TRT")
    assert not (tmp_path / "out").exists()


def test_files_that_are_no_network(artefacts: dict[str, Path], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"not ONNX")
    with pytest.raises(RejectedError, match="Failed to parse"):
        build_plan(damaged, tmp_path / "engine.plan", AHEAD)
    with pytest.raises(BuildError, match=r"cannot read .*absent.onnx: No such file"):
        build_plan(tmp_path / "absent.onnx", tmp_path / "engine.plan", AHEAD)
    model = onnx.load(artefacts["trt-fp32"])
    free_height(model)
    with pytest.raises(BuildError, match="expected one free dimension, the batch"):
        build_plan(saved(tmp_path / "free.onnx", model), tmp_path / "engine.plan", AHEAD)


def test_two_inputs_are_refused(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    inputs = [value(name, TensorProto.FLOAT, [1, 4]) for name in ("a", "b")]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "g", inputs, [value("c", TensorProto.FLOAT, [1, 4])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    with pytest.raises(RejectedError, match="2 inputs and 1 outputs; expected one of each"):
        build_plan(saved(tmp_path / "two.onnx", model), tmp_path / "engine.plan", AHEAD)


def test_a_fixed_batch_needs_no_profile(artefacts: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(artefacts["trt-fp32"])
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    assert build_plan(saved(tmp_path / "fixed.onnx", model), tmp_path / "engine.plan", AHEAD).bytes > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "sm87"}, r"for 'sm87'\. The Jetson Orin's SM 8\.7 is not among them: build on the device\. Choices: sm75"),
        ({"target": "sm61"}, r"for 'sm61'\. Choices: sm75 \(Turing\), sm80 .* sm121"),
        ({"batches": (8, 1, 32)}, "smallest <= usual <= largest"),
        ({"batches": (0, 1, 1)}, "smallest <= usual <= largest"),
        ({"workspace_bytes": 0}, "workspace of 0 bytes"),
    ],
)
def test_wrong_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(BuildError, match=message):
        BuildOptions(**options)


def test_no_gpu_is_no_engine_for_this_gpu(artefacts: dict[str, Path], tmp_path: Path) -> None:
    """Built for the GPU that is here, or said that there is none; never an engine for another."""
    try:
        plan = build_plan(artefacts["trt-fp32"], tmp_path / "engine.plan", BuildOptions())
    except RejectedError:
        raise
    except BuildError as error:
        assert "needs an NVIDIA GPU and its driver, and finds none" in str(error)
        assert not (tmp_path / "engine.plan").exists()
    else:
        assert plan.target == "gpu"


@pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX")
def test_timing_cache_round_trip(tmp_path: Path) -> None:
    """Through the library's own serialisation; a missing or damaged file is an empty cache, never a failed build."""
    config = trt.Builder(trt.Logger(trt.Logger.INTERNAL_ERROR)).create_builder_config()
    path = tmp_path / "cache" / "kernels.cache"
    tensorrt.load_cache(config, path)
    tensorrt.save_cache(config, path)
    first = path.read_bytes()
    assert first
    for stored in (first, b"damaged"):
        path.write_bytes(stored)
        tensorrt.load_cache(config, path)
        tensorrt.save_cache(config, path)
        assert path.read_bytes() == first
    assert [file.name for file in path.parent.iterdir()] == ["kernels.cache"]


def test_the_timing_cache_is_left_alone_where_there_is_none(artefacts: dict[str, Path], tmp_path: Path) -> None:
    options = BuildOptions(target="sm86", timing_cache=tmp_path / "kernels.cache")
    assert build_plan(artefacts["trt-fp32"], tmp_path / "engine.plan", options).options["timing_cache"] is False
    assert not (tmp_path / "kernels.cache").exists()


@pytest.mark.parametrize("flavour", TRT)
def test_float32_is_float32_and_not_tf32(flavour: str, artefacts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flag that TensorRT sets by default is cleared in the configuration that its own builder gets."""
    seen = []
    configure = tensorrt._configure

    def watched(library: ModuleType, config: Any, options: BuildOptions) -> None:
        seen.append(config.get_flag(library.BuilderFlag.TF32))
        configure(library, config, options)
        seen.append(config.get_flag(library.BuilderFlag.TF32))

    monkeypatch.setattr(tensorrt, "_configure", watched)
    build_plan(artefacts[flavour], tmp_path / "engine.plan", AHEAD)
    assert seen == [True, False]


def test_flags_follow_the_library() -> None:
    """Strong typing is a flag up to TensorRT 10, and all there is where the flag is gone."""
    old = SimpleNamespace(NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1))
    assert tensorrt._strongly_typed(old) == 2
    assert tensorrt._strongly_typed(SimpleNamespace(NetworkDefinitionCreationFlag=SimpleNamespace())) == 0


def test_ctrl_c_stops_a_build(artefacts: dict[str, Path], tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_plan(artefacts["trt-fp32"], tmp_path / "engine.plan", AHEAD, watch=interrupt)
    assert not (tmp_path / "engine.plan").exists()


HEAVY = ("torch", "pandas", "onnx", "onnxruntime", "pydantic", "scipy")

WITHOUT = f"""
import sys
from pathlib import Path
sys.modules.update(dict.fromkeys({HEAVY}))  # None: importing it fails
from devices.worker.tensorrt import BuildOptions, build_plan, verify_plan
assert not any(name.startswith(("tensorrt", "numpy")) for name in sys.modules), "imported before it was called"
plan = build_plan(Path(sys.argv[1]), Path(sys.argv[2]), BuildOptions(target="sm86"))
assert verify_plan(plan.path) == plan
"""

MISSING = """
import sys, types
sys.modules.update({"tensorrt": types.ModuleType("tensorrt"), "tensorrt_rtx": None})
from devices.worker.tensorrt import load_library
for ahead in (True, False):
    try:
        load_library(ahead=ahead)
    except Exception as error:
        print(type(error).__name__, error)
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_neither_torch_nor_pandas_is_needed(artefacts: dict[str, Path], tmp_path: Path) -> None:
    done = python(WITHOUT, str(artefacts["trt-int8"]), str(tmp_path / "engine.plan"))
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_missing_is_named() -> None:
    """Type stubs alone are no TensorRT either."""
    ahead, here = python(MISSING).stdout.splitlines()
    assert ahead.startswith("BuildError TensorRT cannot be imported (tensorrt_rtx:")
    assert ahead.endswith("pip install 'edge-harness[aot]'.")
    assert "tensorrt: holds no builder" in here
    assert "python3-libnvinfer" in here
    assert "pip install 'edge-harness[tensorrt]'" in here


def test_the_library_is_found() -> None:
    assert load_library(ahead=True) is trt
