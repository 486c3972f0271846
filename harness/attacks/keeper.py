"""The margin, and a module that remembers the worst input it has seen.

Each iterate's best is kept, not the last and not the first that fools: adversarial sets are replayed on engines, and an image
that has only just crossed the twin's boundary would flatter the engine.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import UsageError


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """logit[y] - the largest other logit, per image: (n, classes) and (n,) -> (n,). Negative where the image fools."""
    own = F.one_hot(labels, logits.shape[1]).bool()
    return logits[own] - logits.masked_fill(own, -torch.inf).amax(1)


class Keeper(nn.Module):
    """Passes inputs on to a module and keeps, per image, the input with the smallest margin.

    Works with any library: whatever the library forwards is a candidate.

    Attributes:
        best: (n, c, h, w), the inputs kept so far; at first the given images.

    Raises:
        UsageError: the module answers with, or has a gradient of, NaN or infinity.
    """

    def __init__(self, module: nn.Module, images: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.module = module
        self.labels = labels
        self.best = images.detach().clone()
        self.margin = images.new_full((len(images),), torch.inf)
        self.training = False  # its own flag only: the module belongs to the caller

    def forward(self, images: Tensor) -> Tensor:
        """The module's logits, (n, classes)."""
        if images.requires_grad:
            images.register_hook(_refuse_non_finite)  # type: ignore[no-untyped-call]
        logits: Tensor = self.module(images)
        if not logits.isfinite().all():
            raise UsageError(
                "the model's logits hold NaN or infinity under attack. Expected finite logits; check its weights and normalisation."
            )
        with torch.no_grad():
            margin = margins(logits, self.labels)
            better = margin < self.margin
            self.margin = torch.where(better, margin, self.margin)
            self.best = torch.where(better.view(-1, 1, 1, 1), images.detach(), self.best)
        return logits


def _refuse_non_finite(gradient: Tensor) -> None:
    if not gradient.isfinite().all():
        raise UsageError(
            "the gradient of the model's loss holds NaN or infinity. Expected a finite gradient; "
            "likely a square root, logarithm or division at zero in the forward pass."
        )
