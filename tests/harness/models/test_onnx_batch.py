"""Files of a fixed batch: read with a free one where the graph allows it, else refused with the way out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from export.onnx import export_onnx
from export.quiet import quiet
from export.session import open_session
from harness.errors import UsageError
from harness.models.load import load_twin

pytestmark = pytest.mark.slow(15)


class Windows(nn.Module):
    """Two flattenings, channel shuffle, and windows that join the batch's axis."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        f = nn.functional.interpolate(self.conv(x), size=(8, 8), mode="bilinear")
        n = f.shape[0]
        f = f.view(n, 2, 4, 8, 8).transpose(1, 2).reshape(n, 8, 8, 8)
        windows = f.view(n, 8, 2, 4, 2, 4).permute(0, 2, 4, 1, 3, 5).reshape(n * 4, 8, 4, 4)
        pooled = windows.softmax(2).mean(1).view(n, 4, 4, 4).flatten(1)
        return self.fc(torch.cat([pooled, f[:, :, 0].flatten(1)], 1))


class Pooled(nn.Sequential):
    """The end of most classifiers: PyTorch's exporter writes its pool to 1x1 as a gather of places that hold the batch."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


class Token(nn.Module):
    """A class token repeated for the batch: in a file of a fixed batch it is stored for that batch."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.fc = nn.Parameter(torch.rand(1, 1, 3)), nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.cat([self.token.expand(x.shape[0], -1, -1), x.flatten(2).transpose(1, 2)], 1).softmax(1)[:, 0])


def save(network: nn.Module, batch: int, path: Path, dynamo: bool) -> None:
    with quiet():
        torch.onnx.export(network.eval(), (torch.rand(batch, 3, 12, 12),), path, dynamo=dynamo, verbose=False)


@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("kind", [Windows, Pooled])
def test_a_fixed_batch_becomes_a_free_one(kind: type[nn.Module], batch: int, dynamo: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = kind()
    save(network, batch, tmp_path / "model.onnx", dynamo)
    twin = load_twin(str(tmp_path / "model.onnx"))
    again = open_session(export_onnx(twin.module, twin.input_shape))
    for n in (1, 3, 6):
        images = torch.rand(n, 3, 12, 12)
        with torch.no_grad():
            expected = network(images).numpy()
            np.testing.assert_allclose(twin.module(images).numpy(), expected, atol=1e-5)
        np.testing.assert_allclose(again.run(None, {"images": images.numpy()})[0], expected, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_batch_that_is_part_of_the_graph_is_refused_with_the_whole_recipe(batch: int, tmp_path: Path) -> None:
    save(Token(), batch, tmp_path / "model.onnx", True)
    with pytest.raises(UsageError, match=f"takes batches of {batch} alone.*dynamo=True, external_data=False, dynamic_shapes=") as caught:
        load_twin(str(tmp_path / "model.onnx"))
    assert "\n" not in str(caught.value)


def test_a_fixed_batch_of_any_size_is_freed_where_the_size_is_told(tmp_path: Path) -> None:
    """Its batch was called a part of its graph."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Reshape", ["p", "shape"], ["y"]),
    ]
    images = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "h", "w"])
    stored = [numpy_helper.from_array(np.ones((5, 3, 3, 3), np.float32), "w"), numpy_helper.from_array(np.array([1, 5]), "shape")]
    graph = helper.make_graph(nodes, "g", [images], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "open.onnx")
    for twin in (load_twin(str(tmp_path / "open.onnx"), image_size=12), load_twin(str(tmp_path / "open.onnx"), data_shape=(3, 12, 12))):
        assert twin.input_shape == (3, 12, 12) and twin.module(torch.rand(4, 3, 12, 12)).shape == (4, 5)
    with pytest.raises(UsageError, match=r"leaves its input size open \(3x\?x\?\); give --image-size"):
        load_twin(str(tmp_path / "open.onnx"))


def test_the_hash_of_a_model_is_that_of_the_weights_beside_it_too(tmp_path: Path) -> None:
    hashes = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        with quiet():
            torch.onnx.export(Windows().eval(), (torch.rand(1, 3, 12, 12),), tmp_path / "model.onnx", dynamo=True, external_data=True)
        hashes |= {load_twin(str(tmp_path / "model.onnx")).sha256, (tmp_path / "model.onnx").read_bytes()}
    assert len([h for h in hashes if isinstance(h, str)]) == 2
