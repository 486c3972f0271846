"""Parity of an artefact: it passes what is right and names what is not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from torch import nn

from export.artefact import Artefact
from export.errors import ExportError
from export.flavours import export_flavour
from export.parity import LIMITS, check_parity

Plant = Callable[[ModelProto, str], Artefact]


def changed(graph: ModelProto, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> ModelProto:
    """The graph with the linear layer's bias (5 numbers, one per class) changed."""
    model = ModelProto()
    model.CopyFrom(graph)
    for tensor in model.graph.initializer:
        if list(tensor.dims) == [5]:
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)).astype(np.float32), tensor.name))
    return model


def test_a_true_export_passes(network: nn.Module, graph: ModelProto, images: NDArray[np.uint8], planted: Plant) -> None:
    found = check_parity(network, planted(graph, "fp32"), images)
    assert (found.n, found.top1_agreement, found.passed, found.remedy) == (48, 1.0, True, "")
    assert found.max_logit_error < 1e-4
    assert found.limit == "top-1 agreement >= 99.9%, |logit error| <= 0.001"


@pytest.mark.parametrize(("offset", "passes"), [(0.0009, True), (0.0011, False)])
def test_the_error_is_the_largest_difference(
    offset: float, passes: bool, network: nn.Module, graph: ModelProto, images: NDArray[np.uint8], planted: Plant
) -> None:
    """All biases moved by the same amount: equal labels, and an error that is exactly known."""
    found = check_parity(network, planted(changed(graph, lambda bias: bias + offset), "fp32"), images)
    assert found.max_logit_error == pytest.approx(offset, abs=1e-5)
    assert found.passed is passes


def shut_out(bias: NDArray[np.float32]) -> NDArray[np.float32]:
    """The last class far below all others."""
    return np.where(np.arange(5) == 4, np.float32(-1e9), bias)


@pytest.mark.parametrize(("offset", "passes"), [(0.0, True), (0.1, False)])
def test_a_class_that_is_shut_out_hides_no_error_of_the_others(
    offset: float, passes: bool, network: nn.Module, graph: ModelProto, images: NDArray[np.uint8], planted: Plant
) -> None:
    twin = copy.deepcopy(network)
    (linear,) = (part for part in twin.modules() if isinstance(part, nn.Linear))
    with torch.no_grad():
        linear.bias.copy_(torch.from_numpy(shut_out(linear.bias.numpy())))
    found = check_parity(twin, planted(changed(graph, lambda bias: shut_out(bias + np.float32(offset))), "fp32"), images)
    assert (found.top1_agreement, found.passed) == (1.0, passes)


class Levels(nn.Module):
    """Activations on four levels, of which many lie at a border: pixels k/255 times a power of two, and biases at halves."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 8, 3, bias=False), nn.Linear(8 * 36, 5)
        with torch.no_grad():
            self.conv.weight.fill_(1 / 27)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(((self.conv(x) * 255 * 27 / 2).round() / 64).flatten(1))


def test_a_value_at_a_rounding_border_may_fall_to_either_side_and_no_weight_may_change(tmp_path: Path) -> None:
    """Every sum of 27 pixels is an integer, and half of one is at a border for every odd one."""
    network, images = Levels().eval(), np.random.default_rng(0).integers(0, 256, (32, 8, 8, 3)).astype(np.uint8)

    def exported(module: nn.Module) -> Artefact:
        return export_flavour(
            module.eval(), "onnx-fp32", input_shape=(3, 8, 8), source_sha256="0" * 64, calibration_images=images,
            calibration_method="minmax", folder=tmp_path,
        )  # fmt: skip

    found = check_parity(network, exported(network), images)
    assert found.max_logit_error > 1e-3 * 5, "the borders are where the runtimes differ"
    assert found.passed, found
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.fc.weight[0] *= 1.05
    found = check_parity(network, exported(other), images)
    assert not found.passed, found


@pytest.mark.parametrize("precision", LIMITS)
def test_other_answers_fail_with_a_remedy(
    precision: str, network: nn.Module, graph: ModelProto, images: NDArray[np.uint8], planted: Plant
) -> None:
    with torch.no_grad():
        label = int(network(torch.from_numpy(images[:1].transpose(0, 3, 1, 2)).float() / 255).argmax())
    wrong = np.zeros(5)
    wrong[(label + 1) % 5] = 1e3
    found = check_parity(network, planted(changed(graph, lambda bias: bias + wrong), precision), images)
    assert not found.passed
    assert found.top1_agreement < 0.9
    assert found.remedy == LIMITS[precision].remedy


def test_nan_fails(network: nn.Module, graph: ModelProto, images: NDArray[np.uint8], planted: Plant) -> None:
    found = check_parity(network, planted(changed(graph, lambda bias: bias * np.nan), "int8"), images)
    assert not found.passed
    assert np.isfinite(found.max_logit_error)


def test_nothing_to_compare(network: nn.Module, graph: ModelProto, images: NDArray[np.uint8], planted: Plant) -> None:
    artefact = planted(graph, "fp32")
    with pytest.raises(ExportError, match="no image"):
        check_parity(network, artefact, images[:0])
    with pytest.raises(ExportError, match="cannot run"):
        check_parity(nn.Sequential(nn.Flatten(), nn.LazyLinear(5)).eval(), artefact, images[:, :6])
    artefact.path.write_bytes(b"damaged")
    with pytest.raises(ExportError, match="cannot load"):
        check_parity(network, artefact, images)


def test_another_number_of_classes(graph: ModelProto, images: NDArray[np.uint8], planted: Plant) -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 8, 7)).eval()
    with pytest.raises(ExportError, match="not an export of this model"):
        check_parity(other, planted(graph, "fp32"), images)
