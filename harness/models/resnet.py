"""Residual networks for small images: MLPerf Tiny's ResNet-8 and the CIFAR form of ResNet-18."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)


class Normalize(nn.Module):
    """Per-channel standardisation, (x - mean) / std, kept inside the model so that every input is [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Standardise images (n, c, h, w) in [0, 1]."""
        return (x - self.mean) / self.std


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a skip connection (He et al., CVPR 2016, figure 2)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, outputs, h / stride, w / stride)."""
        out = self.relu1(self.bn1(self.conv1(x)))
        result: Tensor = self.relu2(self.bn2(self.conv2(out)) + self.shortcut(x))
        return result


class CifarResNet(nn.Module):
    """A ResNet of basic blocks for 32x32 images: 3x3 stem without pooling, global average pooling, one linear layer.

    Args:
        widths: output channels of each stage; every stage but the first halves the resolution.
        blocks: basic blocks in each stage.
        classes: number of logits.
    """

    def __init__(self, widths: tuple[int, ...], blocks: int, classes: int = 10) -> None:
        super().__init__()
        self.normalize = Normalize(CIFAR10_MEAN, CIFAR10_STD)
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        stages = []
        for i, width in enumerate(widths):
            first = BasicBlock(widths[max(i - 1, 0)], width, 1 if i == 0 else 2)
            stages.append(nn.Sequential(first, *(BasicBlock(width, width, 1) for _ in range(blocks - 1))))
        self.stages = nn.Sequential(*stages)
        self.linear = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, 3, h, w) in [0, 1] -> logits (n, classes)."""
        x = self.relu(self.bn1(self.conv1(self.normalize(x))))
        x = self.stages(x).mean(dim=(2, 3))
        logits: Tensor = self.linear(x)
        return logits


def resnet8(classes: int = 10) -> CifarResNet:
    """MLPerf Tiny's image-classification network: three stages of one block, 16-32-64 channels.

    Differs from the reference model (mlcommons/tiny, `keras_model.py`) in two points that inference cannot see:
    convolutions before a batch norm have no bias of their own, and the shortcut convolutions have a batch norm.
    """
    return CifarResNet((16, 32, 64), blocks=1, classes=classes)


def cifar_resnet18(width: int = 64, classes: int = 10) -> CifarResNet:
    """ResNet-18 in CIFAR form; `width` is the channel count of the first stage (64 in the literature)."""
    return CifarResNet((width, 2 * width, 4 * width, 8 * width), blocks=2, classes=classes)
