"""MobileNetV2 in CIFAR form: the strides of the stem and of the second stage are 1 (Sandler et al., CVPR 2018)."""

from __future__ import annotations

from torch import Tensor, nn

from harness.models.resnet import CIFAR10_MEAN, CIFAR10_STD, Normalize

# Expansion, channels, blocks, stride of the first block: table 2 of the paper, with stride 1 in the second row.
ROWS = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
STEM, HEAD = 32, 1280


class InvertedResidual(nn.Module):
    """Expand by a 1x1 convolution, filter each channel, project by a 1x1 convolution; a projected shortcut where only channels change."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = expansion * inputs
        self.conv1, self.bn1, self.relu1 = nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()
        self.conv2 = nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False)
        self.bn2, self.relu2 = nn.BatchNorm2d(wide), nn.ReLU()
        self.conv3, self.bn3 = nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.shortcut: nn.Sequential | None = None
        if stride == 1:
            self.shortcut = nn.Sequential()
            if inputs != outputs:
                self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, outputs, h / stride, w / stride)."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.bn2(self.conv2(out)))
        projected: Tensor = self.bn3(self.conv3(out))
        return projected if self.shortcut is None else projected + self.shortcut(x)


class CifarMobileNetV2(nn.Module):
    """Seven rows of inverted residuals for 32x32 images; `width` scales every channel count but the classes."""

    def __init__(self, width: float = 1.0, classes: int = 10) -> None:
        super().__init__()
        self.normalize = Normalize(CIFAR10_MEAN, CIFAR10_STD)
        channels = scaled(STEM, width)
        self.conv1, self.bn1, self.relu1 = nn.Conv2d(3, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        blocks = []
        for expansion, outputs, count, stride in ROWS:
            for i in range(count):
                blocks.append(InvertedResidual(channels, scaled(outputs, width), expansion, stride if i == 0 else 1))
                channels = scaled(outputs, width)
        self.blocks = nn.Sequential(*blocks)
        head = scaled(HEAD, width)
        self.conv2, self.bn2, self.relu2 = nn.Conv2d(channels, head, 1, bias=False), nn.BatchNorm2d(head), nn.ReLU()
        self.linear = nn.Linear(head, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, 3, h, w) in [0, 1] -> logits (n, classes)."""
        x = self.relu1(self.bn1(self.conv1(self.normalize(x))))
        x = self.relu2(self.bn2(self.conv2(self.blocks(x))))
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, in multiples of 8 (the paper's rule for its width multiplier)."""
    return channels if width == 1 else max(8, round(channels * width / 8) * 8)
