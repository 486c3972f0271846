"""Real images at a quarter of the pixels, a network that takes them, and jobs that train on them for a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.compression.job import Job
from harness.compression.recipe import CompressionRecipe
from harness.compression.table import METHODS
from harness.data.dataset import Dataset
from harness.data.load import load_data
from harness.models.architectures import build
from harness.training.recipe import Stage


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def small() -> Dataset:
    """160 photographs of 16 x 16 pixels."""
    _, images = load_data("cifar10-sample", input_shape=None, classes=None, seed=0)
    return Dataset("small", images.images[:160, ::2, ::2].copy(), images.labels[:160], images.class_names)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return build("resnet8", 10)


def stage(name: str, **changes: Any) -> Stage:
    return Stage(**{"name": name, "objective": "standard", "epochs": 2, "batch": 32, "lr": 0.05, "holdout": 40, "average": 0.5, **changes})


@pytest.fixture
def make_job(small: Dataset, tmp_path: Path) -> Callable[..., Job]:
    """A job of any method: `make_job("hydra", rate="0.5", pattern="filter", epochs=3, options={...})`."""

    def make(method: str, rate: str | None = None, *, out: str = "stages", pattern: str = "irregular", until: str | None = None,
             options: dict[str, float] | None = None, network: nn.Module | None = None, **changes: Any) -> Job:  # fmt: skip
        torch.manual_seed(0)
        subject, teachers = network or build("resnet8", 10), {}
        for i, role in enumerate(METHODS[method].teachers):
            torch.manual_seed(i + 1)
            teachers[role] = build("resnet8", 10).requires_grad_(False)
        recipe = CompressionRecipe(
            description="a test", stages={name: stage(name, **changes) for name in METHODS[method].stages}, options=options or {}
        )
        rate = METHODS[method].default if rate is None else rate
        return Job(subject, "resnet8", (3, 16, 16), small, rate, recipe, tmp_path / out, pattern, until, teachers)

    return make
