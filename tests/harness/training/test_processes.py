"""Two processes, started by torchrun as several GPUs are: one training, each on its half of every batch, one set of files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from harness.compute.placement import device
from harness.data.load import load_all, load_data
from harness.models.architectures import build
from harness.training import processes
from harness.training.recipe import Stage
from harness.training.train import Training

pytestmark = pytest.mark.slow(60)

COMPRESS = """
description = "a test"
[common]
objective = "trades"
epochs = 1
batch = 16
lr = 0.05
steps = 1
holdout = 40
bf16 = false
[prune]
[finetune]
"""

# What every process does: each part writes a file, from the first process alone.
PARTS = """
from pathlib import Path
import torch
from harness.data.load import load_all
from harness.errors import UsageError
from harness.models.architectures import build
from harness.training import processes
from harness.training.recipe import Stage
from harness.training.train import Training, fit
from test_processes import STAGE, fixed_norms

data = load_all("few.npz")
run = Training(Stage(**STAGE, objective="standard"), data, fixed_norms())
seen = run.epoch()
weights = dict(run.network.named_parameters())
if processes.rank() == 0:
    torch.save({"loss": seen.loss, "clean": seen.clean, "weights": weights}, "halves.pt")
torch.save([p.detach() for p in weights.values()], f"rank{processes.rank()}.pt")

def trained(folder, cut):
    torch.manual_seed(0)
    stage, network = Stage(**{**STAGE, "epochs": 2}, objective="pgd-at", steps=1), build("resnet8", 10)
    if cut:
        real = Training.epoch
        Training.epoch = lambda run: real(run) if not run.history else (_ for _ in ()).throw(KeyboardInterrupt())
        try:
            fit(stage, data, network, Path(folder))
        except KeyboardInterrupt:
            Training.epoch = real
        processes.wait()
        torch.manual_seed(0)
        network = build("resnet8", 10)
    fitted = fit(stage, data, network, Path(folder))
    return {"state": network.state_dict(), "history": [(e.number, e.loss, e.clean, e.robust) for e in fitted.history]}

straight, resumed = trained("straight", False), trained("cut", True)
if processes.rank() == 0:
    torch.save([straight, resumed], "resume.pt")
try:
    Training(Stage(**{**STAGE, "batch": 15}, objective="standard"), data, fixed_norms())
except UsageError as error:
    Path(f"refused{processes.rank()}").write_text(str(error))
"""
STAGE = {"name": "t", "epochs": 1, "batch": 16, "lr": 0.05, "holdout": 40, "bf16": False}


def fixed_norms() -> nn.Module:
    """A network whose batch norms keep their statistics, so that the gradient of a batch is the mean of its halves'."""
    torch.manual_seed(0)
    network = build("resnet8", 10)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train = lambda mode=True, module=module: module  # type: ignore[method-assign]
    return network


def torchrun(here: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words]
    return subprocess.run(
        command, cwd=here, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    )


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    _, images = load_data("cifar10-sample", input_shape=None, classes=None, seed=0)
    np.savez(folder / "few.npz", images=images.images[:104], labels=images.labels[:104])
    np.savez(folder / "test.npz", images=images.images[104:114], labels=images.labels[104:114])
    (folder / "parts.py").write_text(PARTS)
    (folder / "r.toml").write_text(COMPRESS)
    done = torchrun(folder, "parts.py")
    assert done.returncode == 0, done.stderr
    (folder / "stderr").write_text(done.stderr)
    return folder


def test_without_torchrun_there_is_one_process() -> None:
    processes.join()
    network = nn.BatchNorm2d(3)
    assert (processes.rank(), processes.count(), processes.total(2.5)) == (0, 1, 2.5)
    assert processes.parallel(network) is network
    assert device().type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_two_halves_of_a_batch_are_the_batch(here: Path) -> None:
    """The same epoch in this one process and in two: the same loss, accuracy and weights, up to the order of summation."""
    run = Training(Stage(**STAGE, objective="standard"), load_all(str(here / "few.npz")), fixed_norms())
    seen, halves = run.epoch(), torch.load(here / "halves.pt", weights_only=True)
    assert halves["loss"] == pytest.approx(seen.loss, rel=1e-5) and halves["clean"] == seen.clean
    start = dict(fixed_norms().named_parameters())
    for name, weight in run.network.named_parameters():
        torch.testing.assert_close(halves["weights"][name], weight, rtol=1e-4, atol=1e-5)
        assert not torch.equal(weight, start[name])


def test_both_processes_have_the_same_weights(here: Path) -> None:
    one, other = (torch.load(here / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_cut_training_goes_on_as_if_it_had_not_been_cut(here: Path) -> None:
    straight, resumed = torch.load(here / "resume.pt", weights_only=True)
    assert straight["history"] == resumed["history"]
    assert all(torch.equal(tensor, resumed["state"][name]) for name, tensor in straight["state"].items())


def test_a_checkpoint_is_that_of_one_process(here: Path) -> None:
    """Written once, under the names that a single process gives: it can go on alone."""
    state = torch.load(here / "straight" / "checkpoint.pt", weights_only=True)
    assert state["network"].keys() == build("resnet8", 10).state_dict().keys()
    run = Training(Stage(**{**STAGE, "epochs": 2}, objective="pgd-at", steps=1), load_all(str(here / "few.npz")), build("resnet8", 10))
    run.restore(here / "straight" / "checkpoint.pt")
    assert len(run.history) == 2
    said = (here / "stderr").read_text()
    assert said.count("t, epoch 1/2") == 2 and said.count("t, epoch 2/2") == 2, "straight and resumed, one process of each speaks"


def test_a_batch_that_cannot_be_shared_is_refused(here: Path) -> None:
    for rank in (0, 1):
        assert "batches of 15, which 2 processes cannot share equally" in (here / f"refused{rank}").read_text()


def test_torchrun_starts_the_command(here: Path) -> None:
    """`torchrun -m harness compress`: one card, one line of output for each file, no folder left."""
    words = ("--data", "few.npz", "--test", "test.npz", "--recipe", "r.toml", "--rate", "4x", "--out", "out.safetensors")
    done = torchrun(here, "-m", "harness", "compress", "resnet8", "--method", "hydra", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["out.safetensors", "out.json"]
    assert 3 < json.loads((here / "out.json").read_text())["size"]["ratio"]["nonzero"] < 4
    assert not (here / "out.stages").exists()
