"""`--normalize` for a network that standardises its images itself is said, whatever kind of file it lies in; once is no remark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.models.load import load_twin
from harness.models.normalisation import own_scaling
from harness.models.resnet import Normalize

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHAPE = (3, 16, 16)


def network(*first: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*first, nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()


class Affine(nn.Module):
    """As torchvision's `transform_input` writes it: one channel at a time."""

    def __init__(self, scale: float, shift: float) -> None:
        super().__init__()
        self.scale, self.shift = scale, shift

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, c : c + 1] * self.scale + self.shift for c in range(3)], 1)


def save(module: nn.Module, folder: Path, kind: str) -> str:
    path, images = folder / f"net.{kind}", torch.rand(2, *SHAPE)
    if kind == "pt2":
        torch.export.save(torch.export.export(module, (images,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)), path)
    else:
        torch.onnx.export(module, (images,), path, dynamo=True, external_data=False, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    return str(path)


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
def test_a_network_that_standardises_itself_is_said_to_be_given_normalize_as_well(kind: str, tmp_path: Path) -> None:
    model = save(network(Normalize(MEAN, STD)), tmp_path, kind)
    assert load_twin(model).remarks == ()
    (remark,) = load_twin(model, normalize="imagenet").remarks
    assert "(mean 0.485, 0.456, 0.406, standard deviation 0.229, 0.224, 0.225), and --normalize imagenet" in remark


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
def test_a_network_that_does_not_is_standardised_once(kind: str, tmp_path: Path) -> None:
    assert load_twin(save(network(), tmp_path, kind), normalize="imagenet").remarks == ()


@pytest.mark.parametrize(
    ("first", "seen"),
    [
        (Affine(2, -1), (0.5, 0.5)),
        (Affine(255, -127.5), (0.5, 1 / 255)),
        (nn.BatchNorm2d(3), None),  # of mean 0 and variance 1: what it is given
        (Affine(0.229 / 0.5, -0.03), None),  # Inception's `transform_input` follows --normalize imagenet
        (nn.ReLU(), None),
        (nn.Hardtanh(0.2, 0.8), None),  # not one line
        (nn.ZeroPad2d(1), None),
        (nn.Conv2d(3, 3, 1), None),  # a convolution of the network's own
    ],
)
def test_what_is_one_line_per_channel_and_widens_is_a_standardisation(first: nn.Module, seen: tuple[float, float] | None) -> None:
    own = own_scaling(network(first), SHAPE)
    assert (own is None) == (seen is None)
    if own is not None and seen is not None:
        np.testing.assert_allclose(own, [[value] * 3 for value in seen], rtol=1e-4, atol=1e-6)


def test_a_network_without_a_convolution_is_not_judged() -> None:
    assert own_scaling(nn.Sequential(Normalize(MEAN, STD), nn.Flatten(), nn.Linear(768, 3)), SHAPE) is None
