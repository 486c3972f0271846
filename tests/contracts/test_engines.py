"""What every engine must do, whatever its runtime. A new line in `devices.worker.engines.ENGINES` is tested by being there.

The model is linear, so the right answer is known without any runtime. An engine that needs a GPU is skipped where there is none, with
its own reason; what it says there is tested in tests/devices.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from devices.worker.engines import ENGINES, Engine, Loaded, NotRunError, RefusedError, make_engine
from devices.worker.spec import RuntimeOptions

pytestmark = pytest.mark.slow(20)

SHAPE, CLASSES = (3, 5, 7), 4
WEIGHT = np.random.default_rng(0).normal(size=(105, CLASSES)).astype(np.float32)
BIAS = np.random.default_rng(1).normal(size=CLASSES).astype(np.float32)
OPTIONS = RuntimeOptions("picture", "scores", threads=1)
# Largest error of a logit, a sum of 105 products of about 1. TF32, with 10 bits of mantissa, is switched off where a library lets it be.
TOLERANCE = {"onnxruntime": 1e-4, "tensorrt": 2e-2, "torch-tensorrt": 2e-2, "executorch": 1e-4}


@pytest.fixture(params=sorted(ENGINES))
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tolerance(runtime: str) -> float:
    return TOLERANCE[runtime]


@pytest.fixture
def model(tmp_path: Path, runtime: str) -> Path:
    save, suffix = {"torch-tensorrt": (save_program, "pt2"), "executorch": (save_pte, "pte")}.get(runtime, (save_onnx, "onnx"))
    return save(tmp_path / f"linear.{suffix}")


def save_pte(path: Path) -> Path:
    """Of the saved program, by ExecuTorch itself; where it is not installed, a file that no runtime reads."""
    try:
        from executorch.exir import to_edge
    except ImportError:
        path.write_bytes(b"")
        return path
    import torch

    path.write_bytes(to_edge(torch.export.load(save_program(path.with_suffix(".pt2")))).to_executorch().buffer)
    return path


def save_program(path: Path) -> Path:
    import torch

    class Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = torch.nn.Parameter(torch.from_numpy(WEIGHT)), torch.nn.Parameter(torch.from_numpy(BIAS))

        def forward(self, picture: torch.Tensor) -> torch.Tensor:
            return picture.flatten(1) @ self.weight + self.bias

    batch = torch.export.Dim("n", min=1, max=64)
    torch.export.save(torch.export.export(Linear().eval(), (torch.zeros(2, *SHAPE),), dynamic_shapes=({0: batch},)), path)
    return path


def save_onnx(path: Path) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["picture"], ["flat"]), helper.make_node("Gemm", ["flat", "weight", "bias"], ["scores"])],
        "linear",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["n", *SHAPE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(WEIGHT, "weight"), numpy_helper.from_array(BIAS, "bias")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def engine(runtime: str, model: Path) -> Engine:
    """One that loads the model; only onnxruntime must, everywhere."""
    engine = make_engine(runtime)
    try:
        engine.load(model, OPTIONS)
    except (RefusedError, NotRunError) as reason:
        if runtime == "onnxruntime":
            raise
        pytest.skip(str(reason))
    engine.close()
    return engine


@pytest.fixture
def loaded(engine: Engine, model: Path) -> Iterator[Engine]:
    engine.load(model, OPTIONS)
    yield engine
    engine.close()


def images(n: int) -> np.ndarray:
    return np.random.default_rng(n).random((n, *SHAPE), np.float32)


@pytest.mark.parametrize("n", [1, 2, 33])
def test_logits_are_right_at_any_batch(loaded: Engine, n: int, tolerance: float) -> None:
    batch = images(n)
    logits = loaded.infer(batch)
    assert (logits.shape, logits.dtype) == ((n, CLASSES), np.float32)
    np.testing.assert_allclose(logits, batch.reshape(n, -1).astype(np.float64) @ WEIGHT + BIAS, atol=tolerance)


def test_an_image_gets_the_same_logits_alone_and_in_company(loaded: Engine, tolerance: float) -> None:
    batch = images(8)
    alone = np.concatenate([loaded.infer(batch[i : i + 1]) for i in range(8)])
    np.testing.assert_allclose(loaded.infer(batch), alone, atol=tolerance / 10)


def test_the_same_batch_gives_the_same_bits(loaded: Engine) -> None:
    batch = images(8)
    assert np.array_equal(loaded.infer(batch), loaded.infer(batch))


def test_answers_are_the_callers_to_keep_and_inputs_are_left_alone(loaded: Engine) -> None:
    batch = images(2)
    before = batch.copy()
    first = loaded.infer(batch)
    kept = first.copy()
    loaded.infer(images(2) * 0)
    assert np.array_equal(first, kept)
    assert np.array_equal(batch, before)


def test_a_view_into_a_larger_pool_is_read_in_place(loaded: Engine) -> None:
    pool = images(10)
    assert np.array_equal(loaded.infer(pool[3:6]), loaded.infer(pool[3:6].copy()))


def test_it_says_its_version_and_options(engine: Engine, model: Path) -> None:
    told = engine.load(model, OPTIONS)
    engine.close()
    assert isinstance(told, Loaded)
    assert told.version[0].isdigit()
    assert told.options


def test_where_it_has_memory_of_its_own_the_parts_of_a_call_are_told_and_fit_into_it(engine: Engine, model: Path) -> None:
    told = engine.load(model, OPTIONS)
    start = time.perf_counter_ns()
    engine.infer(images(8))
    spent = time.perf_counter_ns() - start
    if told.parts is not None:
        assert set(told.parts()) == {"host_to_device", "compute", "device_to_host"}
        assert 0 < sum(told.parts().values()) <= spent
    assert (told.device_bytes is None) == (told.parts is None)
    engine.close()


def test_it_may_be_loaded_again_after_closing(engine: Engine, model: Path) -> None:
    batch, answers = images(3), []
    for _ in range(2):
        engine.load(model, OPTIONS)
        answers.append(engine.infer(batch))
        engine.close()
    assert np.array_equal(*answers)


@pytest.mark.parametrize("options", [RuntimeOptions("image", "scores", 1), RuntimeOptions("picture", "logits", 1)])
def test_a_name_the_model_does_not_have_is_refused(engine: Engine, model: Path, options: RuntimeOptions) -> None:
    if model.suffix == ".pte":
        return  # names nothing: its inputs have places
    with pytest.raises(RefusedError, match="expected"):
        engine.load(model, options)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x08\x12\x07pytorch" * 5])
def test_a_file_that_is_no_model_is_refused(engine: Engine, model: Path, content: bytes) -> None:
    bad = model.with_stem("bad")
    bad.write_bytes(content)
    with pytest.raises(RefusedError):
        engine.load(bad, OPTIONS)


def test_a_missing_file_is_refused(engine: Engine, model: Path) -> None:
    with pytest.raises(RefusedError):
        engine.load(model.with_stem("absent"), OPTIONS)


def test_an_unknown_runtime_has_its_choices() -> None:
    with pytest.raises(RefusedError, match=f"unknown runtime 'caffe'. Choices: {', '.join(ENGINES)}"):
        make_engine("caffe")
