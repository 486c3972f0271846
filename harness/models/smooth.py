"""A network without its quantizers: nothing is rounded, ranges are clipped as before. Weights stay as they are stored."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.models.straight import rounding_left_out


class Smooth(nn.Module):
    """The module inside, in evaluation mode, with the rounding left out of its forward pass."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> logits (n, classes)."""
        with rounding_left_out():
            logits: Tensor = self.module(images)
        return logits


def without_quantizers(module: nn.Module, images: Tensor) -> Smooth | None:
    """The module without its quantizers; None where it has none, so that leaving them out changes nothing.

    Args:
        module: in evaluation mode.
        images: a few, float32 (n, c, h, w), on which that is seen.
    """
    smooth = Smooth(module)
    with torch.no_grad():
        return None if torch.equal(smooth(images), module(images)) else smooth
