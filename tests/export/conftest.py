"""Small networks, images and the saving of planted ONNX files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper
from torch import nn

from export.artefact import Artefact, sha256_file
from export.onnx import export_onnx


@pytest.fixture(scope="session")
def images() -> NDArray[np.uint8]:
    """48 images, (48, 12, 8, 3): not square, so that height and width cannot be mixed up unseen."""
    return np.random.default_rng(0).integers(0, 256, (48, 12, 8, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def network() -> nn.Module:
    """A convolution, a depthwise one, a pointwise one and a linear layer, with batch norm; 5 classes."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, stride=2, padding=1, groups=16),
        nn.ReLU(),
        nn.Conv2d(16, 24, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 5),
    ).eval()
    with torch.no_grad():
        model[1].running_var.uniform_(0.05, 0.2)
        model[1].bias.normal_()
    return model


@pytest.fixture(scope="session")
def graph(network: nn.Module) -> ModelProto:
    """`network` as ONNX. Copy it before changing it."""
    return export_onnx(network, (3, 12, 8))


@pytest.fixture
def planted(tmp_path: Path) -> Callable[[ModelProto, str], Artefact]:
    """Save a graph as an artefact that claims a precision."""

    def save(model: ModelProto, precision: str = "fp32") -> Artefact:
        path = tmp_path / f"planted-{precision}.onnx"
        onnx.save(model, path)
        shape = tuple(dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:])
        classes = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
        return Artefact(
            "planted", path, sha256_file(path), "0" * 64, "1" * 64, precision, "onnxruntime", "images", shape, "logits", classes, {}, {}
        )

    return save


@pytest.fixture
def optimised(tmp_path: Path) -> Callable[[Path], Path]:
    """The graph that onnxruntime makes of a file, with its default optimisations, as a worker saves it."""

    def save(path: Path) -> Path:
        target = tmp_path / f"{path.stem}.optimised.onnx"
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(target)
        options.log_severity_level = 4
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return target

    return save


@pytest.fixture(scope="session")
def small_model() -> Callable[..., ModelProto]:
    """A graph of the given nodes, one float input `images` (batch, 1, 2, 2), output `logits`."""

    def build(*nodes: NodeProto, initializer: tuple[TensorProto, ...] = (), opset: int = 20, domains: tuple[str, ...] = ()) -> ModelProto:
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            nodes or [helper.make_node("Flatten", ["images"], ["logits"])],
            "small",
            [value("images", TensorProto.FLOAT, ["batch", 1, 2, 2])],
            [value("logits", TensorProto.FLOAT, ["batch", "classes"])],
            initializer,
        )
        opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    return build
