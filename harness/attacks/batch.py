"""One batch under one attack: the attack is run, and what it returns is snapped, projected and tested again in float32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.attacks.gradient import FastForm, logits_of, loss_gradient, place
from harness.attacks.grid import candidates, check_ball, distance_l2
from harness.attacks.keeper import Nearest, margins
from harness.attacks.table import Attack
from harness.data.dataset import to_tensor
from harness.errors import UsageError

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Mask = NDArray[np.bool_]

# Bfloat16 cannot tell who is right this near the boundary (share of the clean image's margin): these images are attacked again in float32.
CLOSE = 0.1


@dataclass(frozen=True)
class Attacked:
    """A batch after the attack.

    Attributes:
        images: uint8 (n, h, w, c); those that were not attacked are the clean ones.
        attacked: the caller asked for it and, unless for everyone, the module has the clean image right.
        right: attacked, and still right.
        zero_gradient: attacked, and the loss gradient at the clean image is zero in more than 99 % of its entries.
        undone: attacked, and the attack's own image, in floats, fools, but no bytes near it do.
    """

    images: Images
    attacked: Mask
    right: Mask
    zero_gradient: Mask
    undone: Mask


def attack_batch(
    module: nn.Module,
    gradients: nn.Module,
    images: Images,
    labels: Labels,
    attack: Attack,
    levels: int | None,
    seed: int,
    wanted: Mask,
    *,
    everyone: bool = False,
) -> Attacked:
    """Attack those of `images` that are `wanted` and that `module` has right. Never ends with a larger margin than the clean image's.

    Args:
        module: in evaluation mode; decides who is right.
        gradients: the module, or a fast form of it, that the attack works on.
        images: uint8 (n, h, w, c).
        labels: int64 (n,).
        levels: radius in levels of 1/255, None for a minimum-norm attack. At 0 nothing is attempted.
        wanted: bool (n,), the survivors of earlier attacks.
        everyone: attack those that `module` has wrong as well, for another model that may have them right; not by a minimum-norm attack,
            which has found what it looks for there.

    Raises:
        UsageError: the module's output is not finite logits (n, classes) for these labels, or a gradient is not finite.
        UntrustedError: an image left the ball.
    """
    right, margin = judge(module, images, labels)
    attacked = wanted & (right | (everyone and attack.bounded))
    zero, undone = np.zeros_like(attacked), np.zeros_like(attacked)
    result, still = images.copy(), attacked.copy()
    where = np.flatnonzero(attacked)
    if where.size and levels != 0:
        exact = module if isinstance(gradients, FastForm) and gradients.bf16 else gradients
        zero[where] = _zero_gradient(exact, images[where], labels[where])
        best = _Best(module, images[where], labels[where], margin[where], right[where], levels)
        in_floats = np.zeros(len(where), dtype=bool)

        def attempt(form: nn.Module, rows: NDArray[np.intp]) -> None:
            x, y = to_tensor(best.clean[rows]).to(place(form)), torch.from_numpy(best.labels[rows]).to(place(form))
            seen = form if attack.bounded else Nearest(form, x, y)
            found = attack.function(seen, x, y, (levels or 0) / 255, seed)
            for images in (seen.best, found) if isinstance(seen, Nearest) else (found,):
                best.offer(rows, images.detach().cpu())
            in_floats[rows] |= _fools_in_floats(module, best.clean[rows], found.detach().cpu(), best.labels[rows], levels)

        attempt(gradients, np.arange(len(where)))
        close = np.flatnonzero(best.right & (best.margin < CLOSE * margin[where]))
        if close.size and gradients is not exact:
            attempt(exact, close)
        result[where], still[where], undone[where] = best.images, best.right, best.right & in_floats
    return Attacked(result, attacked, still, zero, undone)


def judge(module: nn.Module, images: Images, labels: Labels) -> tuple[Mask, NDArray[np.float32]]:
    """Who is right (argmax equals the label), and the margins, both (n,), in float32.

    Raises:
        UsageError: the output is not finite logits (n, classes) with every label below `classes`.
    """
    return _right(module, to_tensor(images), labels)


def _right(module: nn.Module, images: Tensor, labels: Labels) -> tuple[Mask, NDArray[np.float32]]:
    """As `judge`, of float images (n, c, h, w)."""
    with torch.no_grad():
        logits = logits_of(module, images)
    if labels.max() >= logits.shape[1]:
        raise UsageError(f"label {labels.max()} is out of range: the model has {logits.shape[1]} classes")
    if not logits.isfinite().all():
        raise UsageError("the model's logits hold NaN or infinity. Expected finite logits; check its weights and normalisation.")
    y = torch.from_numpy(labels)
    return (logits.argmax(1) == y).numpy(), margins(logits.float(), y).numpy()


def _fools_in_floats(module: nn.Module, clean: Images, found: Tensor, labels: Labels, levels: int | None) -> Mask:
    """Whether what the attack found, float (n, c, h, w), put into the ball and the range of images, fools as it is."""
    x, radius = to_tensor(clean), 1.0 if levels is None else levels / 255
    return ~_right(module, found.clamp(x - radius, x + radius).clamp(0, 1), labels)[0]


class _Best:
    """The bytes kept so far for each image under attack, at first the clean ones; their margins, and who is still right."""

    def __init__(
        self, module: nn.Module, clean: Images, labels: Labels, margin: NDArray[np.float32], right: Mask, levels: int | None
    ) -> None:
        self.module, self.clean, self.labels, self.levels = module, clean, labels, levels
        self.images, self.margin, self.right = clean.copy(), margin.copy(), right.copy()
        self.wrong = ~right  # at first: of these the smallest margin is kept throughout

    def offer(self, rows: NDArray[np.intp], adversarial: Tensor) -> None:
        """Take, for the images at `rows`, the best of the candidates near `adversarial`, float (n, c, h, w).

        That is one that fools, of a minimum-norm attack the nearest that does, else the one with the smallest margin.
        """
        for candidate in candidates(self.clean[rows], adversarial.permute(0, 2, 3, 1).numpy(), self.levels):
            check_ball(self.clean[rows], candidate, self.levels)
            open_ = np.flatnonzero(self.right[rows] | self.wrong[rows] | self._nearer(rows, candidate))
            if not open_.size:
                continue
            todo = rows[open_]
            right, margin = judge(self.module, candidate[open_], self.labels[todo])
            lower = margin < self.margin[todo]
            better = np.where(self.wrong[todo], lower, ~right | (self.right[todo] & lower))
            taken = todo[better]
            self.images[taken], self.margin[taken], self.right[taken] = candidate[open_[better]], margin[better], right[better]

    def _nearer(self, rows: NDArray[np.intp], candidate: Images) -> Mask:
        """Where a minimum-norm attack's candidate is nearer than what is kept; nowhere for one with a radius."""
        if self.levels is not None:
            return np.zeros(len(rows), dtype=bool)
        return distance_l2(self.clean[rows], candidate) < distance_l2(self.clean[rows], self.images[rows])


def _zero_gradient(module: nn.Module, images: Images, labels: Labels) -> Mask:
    with torch.enable_grad():
        x = to_tensor(images).requires_grad_()
        gradient = loss_gradient(module(x), torch.from_numpy(labels).to(place(module)), x)
    share: NDArray[np.float64] = (gradient == 0).flatten(1).double().mean(1).numpy()
    return share > 0.99
