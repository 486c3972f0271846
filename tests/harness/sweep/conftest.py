"""A sweep in miniature: a few real images, one epoch, the null device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data.load import load_data

RECIPE = """
description = "one epoch"
[common]
objective = "standard"
batch = 20
holdout = 20
epochs = 1
lr = 0.01
[prune]
[finetune]
"""

SPEC = """
models = ["resnet8"]
[[methods]]
name = "hydra"
rates = [0.5]
recipe = "tiny.toml"
[compress]
data = "train.npz"
test = "test.npz"
[bench]
device = "null"
data = "test.npz"
attacks = ["fgsm"]
sources = ["S1"]
samples = 8
batches = [1]
flavours = ["onnx-fp32"]
[resources]
cpus = 1
"""


def write_inputs(folder: Path) -> Path:
    """Images, recipe and SPEC.toml; returns the spec's path."""
    test, calibration = load_data("cifar10-sample", input_shape=None, classes=None, seed=0)
    np.savez(folder / "train.npz", images=calibration.images[:60], labels=calibration.labels[:60])
    np.savez(folder / "few.npz", images=calibration.images[:8], labels=calibration.labels[:8])
    held = slice(60, 80)
    np.savez(folder / "test.npz", images=test.images[:8], labels=test.labels[:8], calibration_images=calibration.images[held])
    (folder / "tiny.toml").write_text(RECIPE)
    (folder / "spec.toml").write_text(SPEC)
    return folder / "spec.toml"


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    """SPEC.toml with all it names beside it."""
    return write_inputs(tmp_path)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, once for a whole file of tests."""
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
