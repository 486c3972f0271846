"""What the course of an attack shows of the ways in which attacks fail, on networks built to fail them so."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1] / "attacks"))

from linear import linear_data, linear_model

from harness.attacks.table import resolve
from harness.audit import gates
from harness.data.dataset import Dataset
from harness.stages.course import Course, course

EPS = 2 / 255


class Wrapped(nn.Module):
    """A linear model whose answers or gradients are made useless."""

    def __init__(self, model: nn.Module, how: str) -> None:
        super().__init__()
        self.model, self.how = model, how
        self.asked = 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked += 1
        if self.how == "uphill":  # the values are the model's, the gradient points the other way
            logits = self.model(x)
            return 2 * logits.detach() - logits
        if self.how == "moody" and not x.requires_grad:  # asked without a gradient, it denies what it said before
            return self.model(x).detach() * 0 + self.right
        return self.model(x)


def seen(how: str) -> tuple[Course, Dataset]:
    model = linear_model(3)
    data = linear_data(model, wrong=0)
    wrapped = Wrapped(model, how).eval()
    wrapped.right = 9 * nn.functional.one_hot(torch.from_numpy(data.labels), 3).float()
    return course(wrapped, data, resolve("pgd"), EPS, 0), data


def test_an_honest_network_passes() -> None:
    found, _ = seen("honest")
    assert gates.increasing_loss("pgd", found.each).passed is True
    assert gates.silent_success("pgd", found.lost).passed is True
    assert (found.margins[-1] < 0).any() and (found.margins[-1] > 0).any()


def test_a_gradient_that_leads_uphill_is_an_increasing_loss() -> None:
    found, data = seen("uphill")
    gate = gates.increasing_loss("pgd", found.each)
    assert gate.passed is False and f"of {len(data)} images has not fallen" in gate.observed


def test_an_answer_that_is_not_repeated_is_a_silent_success() -> None:
    found, _ = seen("moody")
    honest, _ = seen("honest")
    assert found.lost.sum() > 0 and not honest.lost.any()
    assert gates.silent_success("pgd", found.lost).passed is False
