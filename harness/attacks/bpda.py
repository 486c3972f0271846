"""Auto-PGD on the margin, for a target whose answers and gradients come from two models (`harness.attacks.target.GuidedTarget`).

The engine's own margin is the loss: it says which steps were good, where to go back to, and which iterate is the best. The gradient of
something that is nearly the engine only says where to look.
"""

from __future__ import annotations

from torch import Tensor

from harness.attacks.apgd import run
from harness.attacks.search import Search, margins

FIRST_STEP, FIRST_STEP_WARM = 2.0, 0.5  # of the radius: a start at the boundary is not to be left with one leap


def bpda(search: Search, *, steps: int) -> None:
    """One run from the search's next start."""
    run(search, margin_loss, steps, size=FIRST_STEP_WARM if search.warm else FIRST_STEP)


def margin_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The largest other logit - logit[y], (n,)."""
    return -margins(logits, labels)
