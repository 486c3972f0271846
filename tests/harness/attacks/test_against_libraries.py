"""The attacks of the table against the same libraries called the plain way, on a small trained network."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import foolbox
import numpy as np
import pytest
import torch
from pyautoattack import AutoAttack
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from torch import Tensor, nn

from harness.attacks.sets import make_set
from harness.attacks.table import resolve
from harness.data.dataset import Dataset, to_tensor

EPS = Fraction(4, 255)


def plain_foolbox(attack: foolbox.Attack) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    def run(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        torch.manual_seed(0)
        return attack(foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu"), x, y, epsilons=float(EPS))[1]

    return run


def plain_auto_attack(name: str) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    def run(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        auto = AutoAttack(model, attacks=[name], version="custom", eps=float(EPS), seed=0)
        auto.apgd = APGDAttack(model, n_iter=50, n_restarts=1, eps=float(EPS), seed=0, device="cpu", logger=auto.logger)
        auto.apgd_targeted = APGDAttack_targeted(
            model, n_iter=50, n_restarts=1, eps=float(EPS), seed=0, device="cpu", n_target_classes=3, logger=auto.logger
        )
        return auto.run_standard_evaluation(x, y)[0]

    return run


PLAIN = {
    "fgsm": plain_foolbox(foolbox.attacks.LinfFastGradientAttack()),
    "bim": plain_foolbox(foolbox.attacks.LinfBasicIterativeAttack(rel_stepsize=0.2, steps=10)),
    "pgd": plain_foolbox(foolbox.attacks.LinfPGD(rel_stepsize=0.25, steps=20)),
    "FB_pgd_at": plain_foolbox(foolbox.attacks.LinfPGD()),
    "apgd-ce": plain_auto_attack("apgd-ce"),
    "apgd-dlr": plain_auto_attack("apgd-dlr"),
    "apgd-t": plain_auto_attack("apgd-t"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_robust_accuracy_is_the_librarys(name: str, trained: tuple[nn.Module, Dataset], tmp_path: Path) -> None:
    model, data = trained
    x, y = to_tensor(data.images), torch.from_numpy(data.labels)
    found = PLAIN[name](model, x, y)
    with torch.no_grad():
        plain = ((model(x).argmax(1) == y) & (model(found).argmax(1) == y)).double().mean().item()
    assert 0.2 < plain < 0.9
    record, _ = make_set(model, data, np.arange(len(data)), resolve(name), EPS, 0, source="S1", folder=tmp_path)
    gained = round((plain - record.target_accuracy) * len(data))
    # Fewer images may survive here: the best iterate is kept, and an image that rounding saves is rounded outwards instead.
    assert -2 <= gained <= 4, f"robust accuracy {record.target_accuracy:.3f}, the library's own {plain:.3f}"
