"""The corpus: torchvision's families and ONNX's own light models, small inputs, random weights."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn
from torchvision import models
from torchvision.models import convnext, densenet, efficientnet, mobilenetv2, resnet, shufflenetv2, swin_transformer, vision_transformer

from export.onnx import OPSET
from export.quiet import quiet

LIGHT = sorted((Path(onnx.__file__).parent / "backend" / "test" / "data" / "light").glob("light_*.onnx"))
CLASSES = 10


class Upsampling(nn.Module):
    """Transposed convolutions: plain, grouped, dilated and with output padding."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(16, 16, 2, stride=2)
        self.grouped = nn.ConvTranspose2d(16, 16, 3, stride=2, padding=1, output_padding=1, groups=4)
        self.dilated = nn.ConvTranspose2d(16, CLASSES, 3, dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.dilated(torch.relu(self.up(torch.relu(self.down(x)))) + torch.relu(self.grouped(self.down(x)))).mean((2, 3))


class Attention(nn.Module):
    """An encoder with multi-head attention on patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 8, stride=8)
        self.encoder = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


class Separable(nn.Module):
    """Grouped, depthwise, dilated and asymmetrically padded convolutions, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=2, dilation=2)
        self.grouped, self.depthwise = nn.Conv2d(16, 16, 3, groups=4, padding=1), nn.Conv2d(16, 16, 3, groups=16, padding=1)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.pad(torch.relu(self.stem(x)), (0, 1, 0, 1))
        return self.head(torch.cat([torch.relu(self.grouped(x)), nn.functional.silu(self.depthwise(x))], dim=1).mean((2, 3)))


_MBCONV = efficientnet.MBConvConfig
_BLOCKS = convnext.CNBlockConfig
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "resnet": (lambda: resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], CLASSES), 32),
    "resnext": (lambda: resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1], CLASSES, groups=4, width_per_group=8), 32),
    "densenet": (lambda: densenet.DenseNet(8, (2, 2, 2, 2), 16, num_classes=CLASSES), 32),
    "mobilenet_v2": (lambda: mobilenetv2.MobileNetV2(CLASSES, inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2]]), 32),
    "mobilenet_v3_small": (lambda: models.mobilenet_v3_small(num_classes=CLASSES), 32),
    "shufflenet_v2": (lambda: shufflenetv2.ShuffleNetV2([2, 2, 2], [24, 48, 96, 192, 256], CLASSES), 32),
    "squeezenet": (lambda: models.squeezenet1_1(num_classes=CLASSES), 64),
    "googlenet": (lambda: models.googlenet(num_classes=CLASSES, aux_logits=False, init_weights=False), 64),
    "regnet": (lambda: models.regnet_y_400mf(num_classes=CLASSES), 32),
    "efficientnet": (
        lambda: efficientnet.EfficientNet([_MBCONV(1, 3, 1, 16, 16, 1), _MBCONV(6, 5, 2, 16, 24, 2)], 0.1, num_classes=CLASSES), 32
    ),
    "convnext": (lambda: convnext.ConvNeXt([_BLOCKS(24, 48, 1), _BLOCKS(48, None, 1)], num_classes=CLASSES), 32),
    "vit": (lambda: vision_transformer.VisionTransformer(32, 16, 1, 2, 32, 64, num_classes=CLASSES), 32),
    "swin": (lambda: swin_transformer.SwinTransformer([4, 4], 24, [2, 2], [2, 2], [4, 4], num_classes=CLASSES), 32),
    "transposed": (Upsampling, 16),
    "attention": (Attention, 32),
    "separable": (Separable, 16),
}  # fmt: skip


def network(name: str) -> ModelProto:
    """One network as torch's tracing exporter writes it: a second of time for all, and other patterns than `export_onnx`."""
    build, size = NETWORKS[name]
    torch.manual_seed(0)
    module, buffer = build().eval(), io.BytesIO()
    dynamic = {"images": {0: "batch"}, "logits": {0: "batch"}}
    with quiet():  # with gradients: without them attention becomes one operator that has no ONNX form
        torch.onnx.export(
            module, (torch.zeros(2, 3, size, size),), buffer, dynamo=False, opset_version=OPSET,
            input_names=["images"], output_names=["logits"], dynamic_axes=dynamic,
        )  # fmt: skip
    return onnx.load_model_from_string(buffer.getvalue())
