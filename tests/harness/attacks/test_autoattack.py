"""AutoAttack, whole: as the library runs it, and no image's margin is larger than where the library left it."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from pyautoattack import AutoAttack
from torch import nn

from harness.attacks.autoattack import autoattack
from harness.attacks.gradient import frozen_eval, seeded
from harness.attacks.search import Search, margins
from harness.data.dataset import to_tensor

EPS = 4 / 255


@pytest.fixture
def subject() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 6)).eval()
    images = to_tensor(np.random.default_rng(0).integers(0, 256, (12, 10, 10, 3), dtype=np.uint8)).contiguous()
    with torch.no_grad():
        model[-1].bias -= model(images).mean(0)
        return model, images, model(images).argmax(1)


def test_it_is_the_librarys_own_run_with_the_best_iterate_of_each_image(subject):
    model, images, labels = subject
    with frozen_eval(model), seeded(7):
        own = AutoAttack(model, norm="Linf", eps=EPS, version="standard", seed=7)
        own.logger.setLevel(logging.CRITICAL)
        own.apgd.n_iter = own.apgd_targeted.n_iter = own.fab.n_iter = 4
        own.apgd_targeted.n_target_classes = own.fab.n_target_classes = 5
        own.square.n_queries = 200
        left = own.run_standard_evaluation(images, labels, batch_size=len(images))
        left = left[0] if isinstance(left, tuple) else left
        search = Search(model, images, labels, EPS, [7] * len(images))
        autoattack(search, steps=4)
        theirs = margins(model(left), labels)
    assert (search.margin <= theirs + 1e-6).all()
    assert torch.equal(search.margin < 0, theirs < 0), "other images are fooled"
    assert 0 < (theirs < 0).sum() < len(images), "a test that shows nothing"
    assert (search.best - images).abs().max() <= EPS + 1e-6
    assert (search.queries > 4).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_take_the_untargeted_forms(classes):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(27, classes)).eval()
    images = torch.rand(6, 3, 3, 3)
    labels = model(images).argmax(1)
    search = Search(model, images, labels, 0.3, range(6))
    with frozen_eval(model):
        autoattack(search, steps=4)
    assert (search.margin < 0).any()
