"""A real exported file to break, and NVIDIA's own parser to ask."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto
from real_tensorrt import RealTensorRT
from torch import Tensor, nn

from export.calibration import Calibration
from export.int8 import quantize_int8
from export.onnx import export_onnx
from export.trt_int8 import quantize_trt_int8

SHAPE = (3, 12, 8)


class Joined(nn.Module):
    """A residual sum, a concatenation and a linear layer, on 16 channels and more."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.left = nn.Conv2d(16, 16, 3, padding=1)
        self.right = nn.Conv2d(16, 16, 3, padding=1)
        self.one, self.other = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
        self.last = nn.Conv2d(32, 32, 3, padding=1)
        self.linear = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(self.right(torch.relu(self.left(x))) + x)
        x = torch.cat([torch.relu(self.one(x)), torch.relu(self.other(x))], dim=1)
        return self.linear(torch.relu(self.last(x)).mean((2, 3)))


@pytest.fixture(scope="session")
def exported() -> dict[str, ModelProto]:
    """One network as onnx-fp32, trt-int8 and ort-int8-rr files are written."""
    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (8, SHAPE[1], SHAPE[2], 3), dtype=np.uint8)
    graph = export_onnx(Joined().eval(), SHAPE)
    calibration = Calibration(images, "minmax")
    return {
        "fp32": graph,
        "trt": quantize_trt_int8(graph, calibration, half=False),
        "ort": quantize_int8(graph, calibration, reduce_range=True),
    }


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[ModelProto], Path]:
    """Writes a graph to a file of its own."""

    def save(model: ModelProto) -> Path:
        path = tmp_path / f"planted-{len(list(tmp_path.iterdir()))}.onnx"
        onnx.save(model, path)
        return path

    return save


@pytest.fixture(scope="session")
def tensorrt() -> Iterator[RealTensorRT]:
    """NVIDIA's parser and builder; the test is skipped where TensorRT for RTX is not installed."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("TensorRT for RTX is not installed: pip install 'edge-harness[aot]'")
    real = RealTensorRT()
    yield real
    real.close()
