"""Wide residual networks for 32x32 images (Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016)."""

from __future__ import annotations

from torch import Tensor, nn

from harness.models.resnet import CIFAR10_MEAN, CIFAR10_STD, Normalize


class PreactivationBlock(nn.Module):
    """Two 3x3 convolutions, each after batch norm and ReLU; where the shape changes, the shortcut is a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.relu1 = nn.BatchNorm2d(inputs), nn.ReLU()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2, self.relu2 = nn.BatchNorm2d(outputs), nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if stride != 1 or inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, outputs, h / stride, w / stride)."""
        active = self.relu1(self.bn1(x))
        skip: Tensor = x if self.shortcut is None else self.shortcut(active)
        out: Tensor = self.conv2(self.relu2(self.bn2(self.conv1(active))))
        return out + skip


class WideResNet(nn.Module):
    """Three stages of (depth - 4) / 6 blocks with 16, 32 and 64 times `widen` channels.

    Args:
        depth: convolutions on the longest path: 28 or 34 in the literature.
        widen: factor of the channels.
        classes: number of logits.
    """

    def __init__(self, depth: int, widen: int, classes: int = 10) -> None:
        super().__init__()
        blocks, widths = (depth - 4) // 6, [16, 16 * widen, 32 * widen, 64 * widen]
        self.normalize = Normalize(CIFAR10_MEAN, CIFAR10_STD)
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        stages = []
        for inputs, outputs, stride in zip(widths, widths[1:], (1, 2, 2), strict=False):
            first = PreactivationBlock(inputs, outputs, stride)
            stages.append(nn.Sequential(first, *(PreactivationBlock(outputs, outputs, 1) for _ in range(blocks - 1))))
        self.stages = nn.Sequential(*stages)
        self.bn, self.relu = nn.BatchNorm2d(widths[-1]), nn.ReLU()
        self.linear = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, 3, h, w) in [0, 1] -> logits (n, classes)."""
        x = self.relu(self.bn(self.stages(self.conv1(self.normalize(x)))))
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits
