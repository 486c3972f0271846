"""Weights that operators share are run where onnxruntime multiplies exactly."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto
from torch import Tensor, nn
from torch.nn import functional as F

from export.calibration import Calibration
from export.flavours import FLAVOURS
from export.int8 import quantize_int8
from export.onnx import export_onnx
from export.own_weights import own_weights
from export.session import EXACT_INTEGERS, open_session, to_input


class Tied(nn.Module):
    """A convolution that is called twice, and its weights in another, with a bias of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.again, self.other = (nn.Conv2d(channels, 8, 3, padding=1) for channels in (3, 8, 8))
        self.other.weight = self.again.weight
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        features = F.relu(self.again(F.relu(self.again(F.relu(self.first(x))))))
        logits: Tensor = self.head(F.relu(self.other(features)).mean((2, 3)))
        return logits


@pytest.fixture(scope="module")
def tied() -> ModelProto:
    return export_onnx(Tied().eval(), (3, 16, 16))


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (32, 16, 16, 3), dtype=np.uint8)


def answers(session: ort.InferenceSession, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(session.run(None, {"images": to_input(pictures)})[0])


def dequantized(model: ModelProto) -> list[NodeProto]:
    """The nodes behind stored signed bytes."""
    codes = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.INT8}
    return [node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in codes]


@pytest.mark.parametrize("flavour", ["ort-int8", "ort-int8-rr"])
def test_tied_weights_are_stored_once_and_run(flavour: str, tied: ModelProto, pictures: NDArray[np.uint8]) -> None:
    """onnxruntime failed: "Attempt to replace the existing tensor"."""
    made = FLAVOURS[flavour].build(tied, Calibration(pictures, "minmax"))  # type: ignore[misc]
    assert len(dequantized(made)) == 3
    expected = answers(open_session(made, optimise=False), pictures)
    np.testing.assert_allclose(answers(open_session(made), pictures), expected, atol=0.05 * np.abs(expected).max())


def test_the_precise_flavour_runs_as_the_device_opens_it(tied: ModelProto, pictures: NDArray[np.uint8]) -> None:
    calibration = Calibration(pictures, "minmax")
    made = FLAVOURS["ort-int8-precise"].build(tied, calibration)  # type: ignore[misc]
    options = ort.SessionOptions()
    options.add_session_config_entry(*next(iter(EXACT_INTEGERS.items())))
    expected = answers(open_session(quantize_int8(tied, calibration)), pictures)
    np.testing.assert_array_equal(answers(ort.InferenceSession(made.SerializeToString(), options), pictures), expected)


def test_zero_points_that_a_tool_merged_are_parted(graph: ModelProto, images: NDArray[np.uint8]) -> None:
    made = quantize_int8(graph, Calibration(images, "minmax"))
    assert not own_weights(made.graph)  # each weight has its own already
    expected = answers(open_session(made), images)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in made.graph.initializer}
    first: dict[tuple[int, ...], str] = {}
    for node in dequantized(made):
        node.input[2] = first.setdefault(shapes[node.input[2]], node.input[2])
    assert len(first) < len(dequantized(made))
    np.testing.assert_array_equal(answers(open_session(made), images), expected)
    assert own_weights(made.graph)
    onnx.checker.check_model(made, full_check=True)
    assert not own_weights(made.graph)
