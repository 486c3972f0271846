"""The attack ends while its loss still rises."""

import torch
from torch.nn import functional as F

from harness.attacks.search import Search, project
from harness.attacks.table import Attack

CAUGHT_BY = "rising loss"
STEPS = 21
ATTACK = Attack("slow-pgd", "selftest", "Linf", STEPS, "eps/22", "PGD from the clean image with small steps", f"{__name__}:slow_pgd")


def slow_pgd(search: Search, *, steps: int) -> None:
    """At its end it has not reached the border of the ball."""
    x = search.images
    for _ in range(steps):
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(F.cross_entropy(search.ask(x), search.labels, reduction="sum"), x)
        x = project(x.detach() + search.eps / 22 * gradient.sign(), search.images, search.eps)
