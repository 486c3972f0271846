"""What a module answers to clean images, before anything is attacked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.attacks.gradient import logits_of, loss_gradient, place
from harness.attacks.search import margins
from harness.data.dataset import to_tensor
from harness.errors import UsageError

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Mask = NDArray[np.bool_]
Margins = NDArray[np.float32]

ZERO_SHARE = 0.99


@dataclass(frozen=True)
class Clean:
    """Of n clean images.

    Attributes:
        right: bool (n,), the module names the label.
        margin: float32 (n,), logit[y] - the largest other logit.
        zero_gradient: bool (n,), the loss gradient is zero in more than 99 % of its entries; False where no gradient is asked for.
    """

    right: Mask
    margin: Margins
    zero_gradient: Mask


def answers_to_clean(module: nn.Module, images: Images, labels: Labels, gradients: nn.Module | None = None) -> Clean:
    """Ask `module` about clean images, and `gradients`, the module or a float32 form of it, for the loss gradient there.

    Raises:
        UsageError: as `judge`.
    """
    right, margin = judge(module, images, labels)
    return Clean(right, margin, np.zeros_like(right) if gradients is None else zero_gradient(gradients, images, labels))


def judge(module: nn.Module, images: Images, labels: Labels) -> tuple[Mask, Margins]:
    """Who is right (argmax equals the label), and the margins, both (n,), in float32.

    Raises:
        UsageError: the output is not finite logits (n, classes) with every label below `classes`.
    """
    return judge_floats(module, to_tensor(images), labels)


def judge_floats(module: nn.Module, images: Tensor, labels: Labels) -> tuple[Mask, Margins]:
    """As `judge`, of float images (n, c, h, w)."""
    with torch.no_grad():
        return judged(logits_of(module, images), labels)


def judged(logits: Tensor, labels: Labels) -> tuple[Mask, Margins]:
    """As `judge`, of logits (n, classes)."""
    if labels.max() >= logits.shape[1]:
        raise UsageError(f"label {labels.max()} is out of range: the model has {logits.shape[1]} classes")
    if not logits.isfinite().all():
        raise UsageError("the model's logits hold NaN or infinity. Expected finite logits; check its weights and normalisation.")
    y = torch.from_numpy(labels)
    return (logits.argmax(1) == y).numpy(), margins(logits.float(), y).numpy()


def zero_gradient(module: nn.Module, images: Images, labels: Labels) -> Mask:
    """Where the loss gradient is zero in more than 99 % of its entries, bool (n,)."""
    with torch.enable_grad():
        x = to_tensor(images).requires_grad_()
        gradient = loss_gradient(module(x), torch.from_numpy(labels).to(place(module)), x)
    share: NDArray[np.float64] = (gradient == 0).flatten(1).double().mean(1).numpy()
    return share > ZERO_SHARE
