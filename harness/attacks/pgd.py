"""Projected gradient descent (Madry et al., ICLR 2018, arXiv:1706.06083), with checkpoints at which images may leave."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from harness.attacks.search import Search, project

STEP = 0.25  # of eps
LOOKS = (2, 5, 10)  # steps after which images may leave


def pgd(search: Search, *, steps: int) -> None:
    """Random start, steps of eps/4 along the sign of the cross-entropy's gradient."""
    x = search.start()
    for step in range(steps):
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            loss = F.cross_entropy(search.ask(x), search.labels, reduction="sum")
            gradient = torch.autograd.grad(loss, x)[0]
        x = project(x.detach() + STEP * search.eps * gradient.sign(), search.images, search.eps)
        if step + 1 in LOOKS and (keep := search.checkpoint()) is not None:
            x = x[keep]
            if not len(x):
                return
    with torch.no_grad():
        search.ask(x)
