"""The saved graph is what really ran: its operators are the kernels that onnxruntime's own profiler sees executed."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from devices.worker.engines import RefusedError
from devices.worker.engines.onnxruntime import LEVELS, SESSION_CONFIG, OnnxRuntime
from devices.worker.spec import RuntimeOptions
from devices.worker.timing import until_idle

OPTIONS = RuntimeOptions("input", "logits", threads=1)


class Calibration(CalibrationDataReader):
    def __init__(self) -> None:
        self.batches = iter([{"input": np.random.default_rng(0).random((4, 3, 8, 8), np.float32)}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


@pytest.fixture(params=["fp32", "int8"])
def network(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Conv - Relu - pool - Gemm, in float or as Q/DQ."""
    rng = np.random.default_rng(0)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["input", "kernel"], ["conv"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["conv"], ["relu"]),
            helper.make_node("GlobalAveragePool", ["relu"], ["pool"]),
            helper.make_node("Flatten", ["pool"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"]),
        ],
        "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 5])],
        [
            numpy_helper.from_array(rng.normal(size=(16, 3, 3, 3)).astype(np.float32), "kernel"),
            numpy_helper.from_array(rng.normal(size=(16, 5)).astype(np.float32), "weight"),
            numpy_helper.from_array(rng.normal(size=5).astype(np.float32), "bias"),
        ],
    )
    path = tmp_path / "network.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    if request.param == "int8":
        quantized = tmp_path / "int8.onnx"
        quantize_static(
            path,
            quantized,
            Calibration(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            extra_options={"ActivationSymmetric": False},
        )
        return quantized
    return path


@pytest.mark.parametrize("level", ["all", "extended", "disabled"])
def test_saved_graph_is_what_runs(network: Path, tmp_path: Path, level: str) -> None:
    batch = np.random.default_rng(1).random((4, 3, 8, 8), np.float32)
    options = RuntimeOptions("input", "logits", threads=1, graph_optimisation=level)
    saved = tmp_path / "saved.onnx"
    measured, other = OnnxRuntime(), OnnxRuntime()
    measured.load(network, options)
    other.load(network, options, saved)
    assert np.array_equal(measured.infer(batch), other.infer(batch))

    settings = ort.SessionOptions()
    settings.graph_optimization_level = LEVELS[level]
    settings.intra_op_num_threads = 1
    settings.enable_profiling = True
    settings.profile_file_prefix = str(tmp_path / "profile")
    session = ort.InferenceSession(str(network), settings, providers=["CPUExecutionProvider"])
    session.run(None, {"input": batch})
    events = json.loads(Path(session.end_profiling()).read_text())
    ran = Counter(event["args"]["op_name"] for event in events if event["name"].endswith("_kernel_time"))
    assert ran == Counter(node.op_type for node in onnx.load(saved).graph.node)
    assert ran["QLinearConv"] == ("int8" in network.name and level != "disabled")


def test_every_option_is_as_it_was_asked_for(network: Path) -> None:
    options = RuntimeOptions("input", "logits", threads=2, graph_optimisation="extended", session_config={"session.x64quantprecision": "1"})
    loaded = OnnxRuntime().load(network, options)
    assert loaded.version == ort.__version__
    wanted = {
        "intra_op_num_threads": 2,
        "inter_op_num_threads": 1,
        "execution_mode": "ORT_SEQUENTIAL",
        "graph_optimization_level": "ORT_ENABLE_EXTENDED",
        "providers": ["CPUExecutionProvider"],
        "session_config": {"session.x64quantprecision": "1"},
    }
    assert wanted.items() <= loaded.options.items()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (RuntimeOptions("image", "logits", 1), "expected the one input 'image'"),
        (RuntimeOptions("input", "scores", 1), "expected 'scores', tensor"),
        (RuntimeOptions("input", "logits", 1, "most"), "unknown graph optimisation 'most'. Choices: disabled, basic, extended, all"),
        (RuntimeOptions("input", "logits", 1, session_config={"session.x64quantprecison": "1"}), "unknown session config entry"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(network: Path, options: RuntimeOptions, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        OnnxRuntime().load(network, options)


def test_every_allowed_config_entry_is_known_to_this_onnxruntime() -> None:
    library = next(Path(ort.__file__).parent.glob("capi/onnxruntime_pybind11_state*.so")).read_bytes()
    assert [key for key in SESSION_CONFIG if key.encode() not in library] == []


@pytest.mark.parametrize("setting", [{}, {"session.intra_op.allow_spinning": "0"}], ids=["by default", "where its threads never spin"])
def test_an_engine_that_is_asked_only_answers_alike_and_leaves_the_processor_alone(network: Path, setting: dict[str, str]) -> None:
    images = np.random.default_rng(1).random((64, 3, 8, 8), np.float32)
    answers, described, spent = [], [], []
    for sleeps in (False, True):
        engine = OnnxRuntime()
        engine.sleeps = sleeps
        described.append(engine.load(network, RuntimeOptions("input", "logits", threads=2, session_config=setting)))
        answers.append(engine.infer(images))
        used = time.process_time()
        time.sleep(0.1)
        spent.append(time.process_time() - used)
        until_idle()
        engine.close()
    assert np.array_equal(*answers)
    assert described[0] == described[1], "what is recorded is the engine that is timed"
    assert spent[1] < 0.03


def test_once_idle_the_threads_of_an_engine_take_nothing_from_the_next(network: Path) -> None:
    engine = OnnxRuntime()
    engine.load(network, RuntimeOptions("input", "logits", threads=2))
    for _ in range(20):
        engine.infer(np.zeros((64, 3, 8, 8), np.float32))
    until_idle()
    used = time.process_time()
    time.sleep(0.1)
    assert time.process_time() - used < 0.03
    engine.close()
