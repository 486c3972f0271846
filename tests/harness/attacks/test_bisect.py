"""Bisection, on an engine that differs from its twin in a thin shell beyond the twin's boundary alone."""

from __future__ import annotations

import numpy as np
import torch
from linear import linear_data, linear_model
from torch import Tensor, nn

from harness.attacks.bisect import bisect
from harness.attacks.search import Search, margins
from harness.attacks.target import GuidedTarget, ModuleTarget
from harness.data.dataset import to_tensor

EPS, SHELL = 24 / 255, 1.0


class Shelled(nn.Module):
    """Class 0 everywhere, but where the twin's logit of class 1 is above that of class 0 by less than SHELL."""

    def __init__(self, twin: nn.Module) -> None:
        super().__init__()
        self.twin = twin

    def forward(self, x: Tensor) -> Tensor:
        logits = self.twin(x)
        margin = (logits[:, 1] - logits[:, 0] - SHELL / 2).abs() - SHELL / 2
        return torch.stack([margin, torch.zeros_like(margin)], dim=1)


def images(twin: nn.Module) -> tuple[Tensor, Tensor]:
    """Those of class 0, and their labels."""
    data = linear_data(twin, wrong=0)
    own = np.flatnonzero(data.labels == 0)
    return to_tensor(data.images[own]), torch.from_numpy(data.labels[own])


def search_on(module: nn.Module, first: Tensor | None) -> Search:
    x, y = images(linear_model(2))
    return Search(module, x, y, EPS, range(len(x)), first=first)


def far(twin: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The twin's own worst images in the ball: of a linear model, the corner along the sign of its weights."""
    toward = twin[1].weight[1 - y] - twin[1].weight[y]  # type: ignore[index]
    return x + EPS * toward.sign().view_as(x)


def test_it_finds_the_shell_that_the_attack_leapt_over() -> None:
    twin = linear_model(2)
    x, y = images(twin)
    engine = ModuleTarget(Shelled(twin), "engine")
    with torch.no_grad():
        end = far(twin, x, y).clamp(0, 1)
        before = margins(twin(x), y)
        leapt = margins(twin(end), y) < -SHELL
        assert leapt.sum() > 20 and (margins(engine.module(end), y)[leapt] > 0).all(), "the failure itself fools the twin alone"
        search = search_on(GuidedTarget(engine, twin).module, end)
        bisect(search, steps=8)
        after = margins(twin(search.best), y)[leapt]
    found = search.margin[leapt] < 0
    assert found.float().mean() > 0.9 and (before > 0).all()
    assert ((after < 0) & (after > -SHELL))[found].all(), "kept is a point in the shell"
    levels = (255 * (search.best - x)).numpy()
    np.testing.assert_allclose(levels, levels.round(), atol=1e-3)
    assert int(search.queries.max()) == 9, "the failure and eight points"


def test_where_no_boundary_is_crossed_it_asks_once() -> None:
    twin = linear_model(2)
    x, _ = images(twin)
    search = search_on(twin, x)
    bisect(search, steps=8)
    assert int(search.queries.max()) == 1, "both are right at the end of the way"


def test_of_a_lone_network_it_is_its_own_boundary_and_the_failure_stays_the_best() -> None:
    twin = linear_model(2)
    x, y = images(twin)
    with torch.no_grad():
        end = far(twin, x, y).clamp(0, 1)
        search = search_on(twin, end)
        bisect(search, steps=8)
        torch.testing.assert_close(search.margin, margins(twin(end), y))
