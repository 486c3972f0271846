"""The differential attack against linear networks, where a linear programme says which images can be parted."""

from __future__ import annotations

import copy
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from linear import SIDE, linear_data, linear_model
from numpy.typing import NDArray
from scipy.optimize import linprog
from torch import nn

from harness.attacks.forms import Forms
from harness.attacks.gradient import FastForm
from harness.attacks.sets import make_set
from harness.attacks.table import Attack, resolve
from harness.attacks.target import Pair
from harness.data.dataset import Dataset, to_tensor

EPS = Fraction(4, 255)
MARGIN = 1e-3  # float32, and bytes in place of numbers: what is nearer to a boundary is not told
DIVA = resolve("diva").with_steps(100)


def pair(noise: float) -> tuple[nn.Module, nn.Module, Dataset]:
    """A network of two classes, a neighbour of it, and the images that both have right."""
    stays = linear_model(2, seed=4)
    torch.manual_seed(8)
    falls = copy.deepcopy(stays)
    with torch.no_grad():
        falls[1].weight += noise * torch.randn_like(falls[1].weight)
        falls[1].bias -= falls[1](torch.full((1, 3 * SIDE * SIDE), 0.5))[0]
    data = linear_data(stays, n=300, low=110, high=146, wrong=0)
    return stays, falls, data.subset(np.flatnonzero(right(falls, data.images, data.labels)))


def right(module: nn.Module, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    with torch.no_grad():
        found: NDArray[np.bool_] = module(to_tensor(images)).argmax(1).numpy() == labels
    return found


def parted(stays: nn.Module, falls: nn.Module, data: Dataset, slack: float) -> NDArray[np.bool_]:
    """Where a point of the ball exists that `falls` has wrong and `stays` right, each by more than `slack`, bool (n,)."""
    flat = to_tensor(data.images).flatten(1).double().numpy()
    rows = []
    for x, label in zip(flat, data.labels, strict=True):
        sign = 1 if label == 0 else -1
        (w_stays, b_stays), (w_falls, b_falls) = ((_difference(module), _offset(module)) for module in (stays, falls))
        box = np.stack([np.maximum(x - float(EPS), 0), np.minimum(x + float(EPS), 1)], axis=1)
        above = np.stack([-sign * w_stays, sign * w_falls])
        limit = np.array([sign * b_stays - slack, -sign * b_falls - slack])
        rows.append(linprog(np.zeros(len(x)), above, limit, bounds=box, method="highs").status == 0)
    return np.array(rows)


def _difference(module: nn.Module) -> NDArray[np.float64]:
    weight = module[1].weight.detach().double().numpy()  # type: ignore[index]
    return weight[0] - weight[1]


def _offset(module: nn.Module) -> float:
    bias = module[1].bias.detach().double().numpy()  # type: ignore[index]
    return float(bias[0] - bias[1])


def attacked(module: nn.Module, data: Dataset, attack: Attack, folder: Path) -> NDArray[np.uint8]:
    _, stored = make_set(module, data, np.arange(len(data)), attack, EPS, 0, source="S5", folder=folder)
    return stored[:]


@pytest.mark.parametrize(("noise", "most"), [(0.2, 0.35), (0.5, 0.6)])
def test_it_parts_many_that_can_be_parted_and_nothing_else(noise: float, most: float, tmp_path: Path) -> None:
    """The nearer the two networks, the thinner the sliver between their boundaries, which a step of one sign per pixel leaps over."""
    stays, falls, data = pair(noise)
    can, surely = parted(stays, falls, data, -MARGIN), parted(stays, falls, data, 0.02)
    assert 20 < surely.sum() < len(data)
    images = attacked(Pair(stays, falls), data, DIVA, tmp_path / "diva")
    found = right(stays, images, data.labels) & ~right(falls, images, data.labels)
    assert not (found & ~can).any()
    assert (found & surely).sum() >= most * surely.sum()
    plain = attacked(falls, data, resolve("apgd-ce-100"), tmp_path / "plain")
    aside = right(stays, plain, data.labels) & ~right(falls, plain, data.labels)
    assert found.sum() > 4 * aside.sum(), "an attack on one network alone takes the other with it"


def test_the_reverse_is_the_other_way_round(tmp_path: Path) -> None:
    stays, falls, data = pair(0.5)
    images = attacked(Pair(falls, stays), data, resolve("diva-reverse-100"), tmp_path)
    found = right(falls, images, data.labels) & ~right(stays, images, data.labels)
    surely = parted(falls, stays, data, 0.02)
    assert surely.sum() > 20 and (found & surely).sum() >= 0.35 * surely.sum()


def test_each_of_the_pair_has_its_fast_form() -> None:
    stays, falls, data = pair(0.2)
    form = Forms(Pair(stays, falls), data).get(bf16=False)
    assert isinstance(form, Pair) and isinstance(form.stays, FastForm) and isinstance(form.falls, FastForm)
    images = to_tensor(data.images)
    with torch.no_grad():
        torch.testing.assert_close(form(images).cpu(), falls(images), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(form.stays(images).cpu(), stays(images), rtol=1e-4, atol=1e-4)
