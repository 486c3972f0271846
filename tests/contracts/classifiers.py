"""The most used classifiers of torchvision and timm, in every kind of file, as far as INT8. `make classifiers` runs it, `make test` not.

Each is at its full depth and small images; its weights are random, its batch norms have seen images.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from export.flavours import export_flavour
from export.parity import check_parity
from export.quiet import quiet
from harness.models.load import load_twin

CLASSES = 10
TORCHVISION = {
    "resnet18": 64, "resnet50": 64, "mobilenet_v2": 64, "mobilenet_v3_small": 64, "efficientnet_b0": 64, "densenet121": 64,
    "shufflenet_v2_x1_0": 64, "squeezenet1_1": 64, "googlenet": 64, "vgg11_bn": 64, "regnet_y_400mf": 64, "mnasnet0_5": 64, "swin_t": 64,
}  # fmt: skip
TIMM = {
    "vit_tiny_patch16_224": 224, "deit_tiny_patch16_224": 224, "convnext_atto": 64, "mobilevit_xxs": 64, "ghostnet_100": 64,
    "mobilenetv4_conv_small": 64, "repvgg_a0": 64,
}  # fmt: skip
FREE = {0: torch.export.Dim.DYNAMIC}


def made(name: str, size: int) -> nn.Module:
    """The network, in eval mode."""
    torch.manual_seed(0)
    own = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    network: nn.Module = (
        torchvision.models.get_model(name, num_classes=CLASSES, **own)
        if name in TORCHVISION
        else timm.create_model(name, num_classes=CLASSES)
    )
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.rand(8, 3, size, size))
    return network.eval()


def as_safetensors(network: nn.Module, x: torch.Tensor, path: Path) -> Path:
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def as_pt2(network: nn.Module, x: torch.Tensor, path: Path) -> Path:
    torch.export.save(torch.export.export(network, (x,), dynamic_shapes=(FREE,)), path.with_suffix(".pt2"))
    return path.with_suffix(".pt2")


def as_onnx(network: nn.Module, x: torch.Tensor, path: Path) -> Path:
    torch.onnx.export(network, (x,), path.with_suffix(".onnx"), dynamo=True, dynamic_shapes=(FREE,), verbose=False)
    return path.with_suffix(".onnx")


def as_legacy_onnx(network: nn.Module, x: torch.Tensor, path: Path) -> Path:
    free = {"input_names": ["images"], "dynamic_axes": {"images": {0: "n"}}}
    torch.onnx.export(network, (x,), path.with_suffix(".onnx"), dynamo=False, opset_version=17, **free)
    return path.with_suffix(".onnx")


@pytest.mark.parametrize("form", [as_safetensors, as_pt2, as_onnx, as_legacy_onnx])
@pytest.mark.parametrize("name", [*TORCHVISION, *TIMM])
def test_a_classifier_reaches_int8(name: str, form: Callable[[nn.Module, torch.Tensor, Path], Path], tmp_path: Path) -> None:
    size = (TORCHVISION | TIMM)[name]
    network, x = made(name, size), torch.rand(2, 3, size, size)
    with quiet():
        file = form(network, x, tmp_path / name)
    twin = load_twin(str(file), **({"arch": name, "image_size": size} if file.suffix == ".safetensors" else {}))
    with torch.no_grad():
        expected, found = network(x), twin.module(x)
    spread = float(expected.std())
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * spread)
    images = np.random.default_rng(0).integers(0, 256, (16, size, size, 3), dtype=np.uint8)
    common = {"input_shape": twin.input_shape, "source_sha256": twin.sha256, "calibration_images": images, "calibration_method": "minmax"}
    fp32 = export_flavour(twin.module, "onnx-fp32", folder=tmp_path, **common)
    assert check_parity(twin.module, fp32, images).passed
    int8 = export_flavour(twin.module, "ort-int8", folder=tmp_path, cache_fp32=fp32, **common)
    assert check_parity(twin.module, int8, images).max_logit_error < spread
