"""Small real ONNX files, and jobs on them that take well under a second."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

sys.path.append(str(Path(__file__).parent))

from devices.worker.spec import Job, LatencyPlan, Options, make_job

SHAPE = (3, 4, 4)
CLASSES = 5
QUICK = LatencyPlan("clean", batches=(1, 3), measure_s=0.02, warmup_floor_s=0.01, warmup_cap_s=0.1)


@dataclass(frozen=True)
class Linear:
    """A linear classifier as an ONNX file, and what it must answer."""

    path: Path
    weight: np.ndarray
    bias: np.ndarray

    def logits(self, images: np.ndarray) -> np.ndarray:
        x = images.transpose(0, 3, 1, 2).reshape(len(images), -1).astype(np.float64) / 255
        return x @ self.weight + self.bias


def save_linear(
    path: Path, weight: np.ndarray, bias: np.ndarray, *, tail: tuple[onnx.NodeProto, ...] = (), output: list[Any] | None = None
) -> None:
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["gemm" if tail else "logits"]),
    ]
    graph = helper.make_graph(
        [*nodes, *tail],
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", *SHAPE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, output or ["n", CLASSES])],
        [numpy_helper.from_array(weight.astype(np.float32), "weight"), numpy_helper.from_array(bias.astype(np.float32), "bias")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example.foreign", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


@pytest.fixture(name="save_linear")
def _save_linear() -> Callable[..., None]:
    return save_linear


@pytest.fixture(scope="session")
def standin_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shared library in the place of NVIDIA's driver, see standin_cuda.c."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here to build the driver's stand-in")
    path = tmp_path_factory.mktemp("cuda") / "libcuda.so.1"
    source = Path(__file__).with_name("standin_cuda.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-O1", "-o", str(path), str(source)], check=True)
    return path


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), dtype=np.uint8)


@pytest.fixture
def linear(tmp_path: Path) -> Linear:
    rng = np.random.default_rng(1)
    weight, bias = rng.normal(size=(48, CLASSES)).astype(np.float32), rng.normal(size=CLASSES).astype(np.float32)
    save_linear(tmp_path / "linear.onnx", weight, bias)
    return Linear(tmp_path / "linear.onnx", weight, bias)


@pytest.fixture
def job_of(tmp_path: Path, images: np.ndarray) -> Callable[..., Job]:
    """Make a quick job in `tmp_path/job` for a model file; keywords go to `make_job`."""

    def build(artefact: Path, folder: Path = tmp_path / "job", **changes: Any) -> Job:
        settings: dict[str, Any] = {
            "flavour": "onnx-fp32",
            "runtime": "onnxruntime",
            "options": Options("input", "logits", threads=1),
            "images": {"clean": images, "noise": images[::-1][:4]},
            "latency": QUICK,
            "infer_batch": 3,
            "silence_limit_s": 60.0,
        }
        return make_job(folder, artefact=artefact, **{**settings, **changes})

    return build
