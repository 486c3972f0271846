"""One batch under one attack: the attack is run, and what it returns is snapped, projected and tested again in float32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from harness.attacks.gradient import logits_of, loss_gradient
from harness.attacks.grid import candidates, check_ball
from harness.attacks.keeper import margins
from harness.attacks.table import Attack
from harness.data.dataset import to_tensor
from harness.errors import UsageError

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Attacked:
    """A batch after the attack.

    Attributes:
        images: uint8 (n, h, w, c); those that were not attacked are the clean ones.
        attacked: the module has the clean image right, and the caller asked for it.
        right: attacked, and still right.
        zero_gradient: attacked, and the loss gradient at the clean image is zero in more than 99 % of its entries.
    """

    images: Images
    attacked: Mask
    right: Mask
    zero_gradient: Mask


def attack_batch(
    module: nn.Module, gradients: nn.Module, images: Images, labels: Labels, attack: Attack, levels: int | None, seed: int, wanted: Mask
) -> Attacked:
    """Attack those of `images` that are `wanted` and that `module` has right. Never ends with a larger margin than the clean image's.

    Args:
        module: in evaluation mode; decides who is right.
        gradients: the module, or a fast form of it, that the attack works on.
        images: uint8 (n, h, w, c).
        labels: int64 (n,).
        levels: radius in levels of 1/255, None for a minimum-norm attack. At 0 nothing is attempted.
        wanted: bool (n,), the survivors of earlier attacks.

    Raises:
        UsageError: the module's output is not finite logits (n, classes) for these labels, or a gradient is not finite.
        UntrustedError: an image left the ball.
    """
    right, margin = judge(module, images, labels)
    attacked = right & wanted
    zero = np.zeros_like(attacked)
    result, still = images.copy(), attacked.copy()
    where = np.flatnonzero(attacked)
    if where.size and levels != 0:
        clean, y = images[where], labels[where]
        zero[where] = _zero_gradient(module, clean, y)
        found = attack.function(gradients, to_tensor(clean), torch.from_numpy(y), (levels or 0) / 255, seed)
        adversarial = found.detach().permute(0, 2, 3, 1).numpy()
        result[where], still[where] = _settle(module, clean, adversarial, y, levels, margin[where])
    return Attacked(result, attacked, still, zero)


def judge(module: nn.Module, images: Images, labels: Labels) -> tuple[Mask, NDArray[np.float32]]:
    """Who is right (argmax equals the label), and the margins, both (n,), in float32.

    Raises:
        UsageError: the output is not finite logits (n, classes) with every label below `classes`.
    """
    with torch.no_grad():
        logits = logits_of(module, to_tensor(images))
    if labels.max() >= logits.shape[1]:
        raise UsageError(f"label {labels.max()} is out of range: the model has {logits.shape[1]} classes")
    if not logits.isfinite().all():
        raise UsageError("the model's logits hold NaN or infinity. Expected finite logits; check its weights and normalisation.")
    y = torch.from_numpy(labels)
    return (logits.argmax(1) == y).numpy(), margins(logits.float(), y).numpy()


def _settle(
    module: nn.Module, clean: Images, adversarial: NDArray[np.float32], labels: Labels, levels: int | None, margin: NDArray[np.float32]
) -> tuple[Images, Mask]:
    """Bytes for the attack's images: the first candidate that fools, else the one with the smallest margin; and who is still right."""
    best, margin, right = clean.copy(), margin.copy(), np.ones(len(clean), dtype=bool)
    for candidate in candidates(clean, adversarial, levels):
        check_ball(clean, candidate, levels)
        todo = np.flatnonzero(right)
        if not todo.size:
            break
        now_right, now_margin = judge(module, candidate[todo], labels[todo])
        better = ~now_right | (now_margin < margin[todo])
        taken = todo[better]
        best[taken], margin[taken], right[taken] = candidate[taken], now_margin[better], now_right[better]
    return best, right


def _zero_gradient(module: nn.Module, images: Images, labels: Labels) -> Mask:
    with torch.enable_grad():
        x = to_tensor(images).requires_grad_()
        gradient = loss_gradient(module(x), torch.from_numpy(labels), x)
    share: NDArray[np.float64] = (gradient == 0).flatten(1).double().mean(1).numpy()
    return share > 0.99
