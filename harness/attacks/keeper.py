"""The margin, and modules that remember the best of the inputs they have seen.

Each iterate's best is kept, not the last and not the first that fools: adversarial sets are replayed on engines, and an image
that has only just crossed the twin's boundary would flatter the engine. Of a minimum-norm attack the nearest is kept that fools as bytes.
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
        logits = _finite_logits(self.module, images)
        with torch.no_grad():
            margin = margins(logits, self.labels)
            better = margin < self.margin
            self.margin = torch.where(better, margin, self.margin)
            self.best = torch.where(better.view(-1, 1, 1, 1), images.detach(), self.best)
        return logits


class Nearest(nn.Module):
    """Passes inputs on to a module, asks it about each input rounded to bytes as well, and keeps per image the nearest that fools so.

    A minimum-norm attack stops as soon as its floats have crossed the boundary. There the nearest byte image is often on the wrong
    side, while one that the search passed by earlier is not: rounding its result alone loses successes.

    Attributes:
        best: float (n, c, h, w) on the uint8 grid; the clean image where none has fooled.
        distance: float (n,), of `best` in the L2 norm, in levels of 1/255; infinite where none has fooled.

    Raises:
        UsageError: as `Keeper`.
    """

    def __init__(self, module: nn.Module, images: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.module = module
        self.labels = labels
        self.best = images.detach().clone()
        self.clean = (255 * self.best).round()
        self.distance = images.new_full((len(images),), torch.inf)
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        """The module's logits, (n, classes), for the images as they are."""
        logits = _finite_logits(self.module, images)
        with torch.no_grad():
            rounded = (255 * images.detach()).round().clamp(0, 255)
            distance = (rounded - self.clean).flatten(1).norm(dim=1)
            near = (distance < self.distance).nonzero().squeeze(1)
            if len(near):
                fools = self.module(rounded[near] / 255).argmax(1) != self.labels[near]
                taken = near[fools]
                self.best[taken], self.distance[taken] = rounded[taken] / 255, distance[taken]
        return logits


def _finite_logits(module: nn.Module, images: Tensor) -> Tensor:
    """What `module` answers; refused where it, or later its gradient, is not finite."""
    if images.requires_grad:
        images.register_hook(_refuse_non_finite)  # type: ignore[no-untyped-call]
    logits: Tensor = module(images)
    if not logits.isfinite().all():
        raise UsageError(
            "the model's logits hold NaN or infinity under attack. Expected finite logits; check its weights and normalisation."
        )
    return logits


def _refuse_non_finite(gradient: Tensor) -> None:
    if not gradient.isfinite().all():
        raise UsageError(
            "the gradient of the model's loss holds NaN or infinity. Expected a finite gradient; "
            "likely a square root, logarithm or division at zero in the forward pass."
        )
