"""What every compression method must do, in miniature, on photographs. A new line in `METHODS` is tested by being there.

A method starts from a network as it is before its first training: pruned or rounded at once, or a fresh student. Some dozens of steps must
carry it well beyond that start, on images that it was not trained on, by a margin that chance does not give. The network that comes out is
plain: it is packed, loads again with the same logits, and exports.
"""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from export.flavours import export_flavour
from export.session import open_session
from harness.compression.job import Job
from harness.compression.methods.lowbit import SymmetricWeight
from harness.compression.recipe import CompressionRecipe, load_recipe, shipped
from harness.compression.table import METHODS
from harness.data.dataset import Dataset, to_tensor
from harness.data.load import load_data, stratified
from harness.errors import UsageError
from harness.models.architectures import build
from harness.models.load import Twin, load_twin
from harness.models.packed import pack, round_trip
from harness.training.recipe import Stage
from harness.training.regime import Regime

pytestmark = pytest.mark.slow(60)

SIGMAS = 4  # of the start's accuracy, as a share of n images: the least gain
ARCH, SIDE = "resnet8", 20  # pixels: it takes any number, and still has four of five photographs right by their middle
SHAPE = (3, SIDE, SIDE)


@cache
def photographs() -> tuple[Dataset, Dataset]:
    """The middle of (images to train on, others to judge by)."""
    images, others = load_data("cifar10-sample", input_shape=None, classes=None, seed=0)
    return middle(images.subset(stratified(images.labels, 400, 0))), middle(others)


def middle(data: Dataset) -> Dataset:
    first = (data.images.shape[1] - SIDE) // 2
    return Dataset(data.name, data.images[:, first : first + SIDE, first : first + SIDE].copy(), data.labels)


@cache
def twin() -> Twin:
    return load_twin(ARCH)


class AtTheStart(Job):
    """A job whose stages train nothing, and that notes which constants are asked for."""

    def train(self, stage: str, regime: Regime | None = None) -> nn.Module:
        if regime is not None:
            x, y = torch.rand(4, *SHAPE), torch.arange(4)
            regime.epoch = 10**6  # past every warm-up
            regime.loss(self.network, x, y, self.recipe.stages[stage], torch.Generator())
        return self.network.eval()

    def option(self, name: str, default: float) -> float:
        self.notes.setdefault("asked", set()).add(name)
        return super().option(name, default)


def plan(method: str) -> CompressionRecipe:
    def stage(name: str) -> Stage:
        common = {"name": name, "holdout": 20, "average": 0.8, "steps": 1, "eps": 2}
        if METHODS[method].teachers:
            return Stage(**common, objective="standard" if method == "kd" else "pgd-at", batch=10, epochs=3, lr=0.02)
        lr = 0.05 if method == "hydra" else 0.02
        return Stage(**common, objective="standard", batch=20, epochs=1 if name in ("prune", "admm") else 2, lr=lr)

    return CompressionRecipe(description="a miniature", stages={name: stage(name) for name in METHODS[method].stages})


def job(kind: type[Job], method: str, out: Path) -> Job:
    entry = METHODS[method]
    torch.manual_seed(0)
    network = build(ARCH, 10) if entry.teachers else copy.deepcopy(twin().module).requires_grad_()
    if method == "qat-int8":  # eight bits alone cost nothing that training could win back
        shake(network)
    pattern = (entry.patterns or ("irregular",))[0]
    teachers = {role: twin().module for role in entry.teachers}
    return kind(network, ARCH, SHAPE, photographs()[0], entry.default, plan(method), out, pattern, None, teachers)


def shake(network: nn.Module) -> None:
    """Add noise of half its spread to every matrix of weights."""
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                weight += 0.5 * weight.std() * torch.randn_like(weight)


def right(network: nn.Module, data: Dataset) -> float:
    with torch.no_grad():
        return float((network.eval()(to_tensor(data.images)).argmax(1).numpy() == data.labels).mean())


@pytest.fixture(scope="module", params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def compressed(method: str, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """The job of a finished miniature."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    done = job(Job, method, tmp_path_factory.mktemp(method))
    done.network = METHODS[method].run(done).eval()
    torch.set_num_threads(threads)
    return done


@pytest.fixture(scope="module")
def start(method: str, tmp_path_factory: pytest.TempPathFactory) -> Job:
    begun = job(AtTheStart, method, tmp_path_factory.mktemp("start"))
    begun.network = METHODS[method].run(begun).eval()
    return begun


def test_it_improves_on_its_start(method: str, start: Job, compressed: Job) -> None:
    _, others = photographs()
    before, after = right(start.network, others), right(compressed.network, others)
    if method == "ptq-int8":  # trains nothing: it must not lose anything either
        assert abs(after - right(twin().module, others)) <= 0.02
    else:
        assert after - before > SIGMAS * np.sqrt(max(before, 0.1) * (1 - before) / len(others)), f"{before:.1%}, then {after:.1%}"


def test_the_network_is_plain(method: str, compressed: Job) -> None:
    for name, module in compressed.network.named_modules():
        assert not parametrize.is_parametrized(module), name
        assert not module._forward_hooks and not module._forward_pre_hooks, name
    fresh = build(compressed.arch, 10)
    if method != "filters":
        assert compressed.network.state_dict().keys() == fresh.state_dict().keys()
    assert all(p.requires_grad and p.isfinite().all() for p in compressed.network.parameters())


@pytest.fixture(scope="module")
def exported() -> set[str]:
    """Architectures of networks that were exported: others of the same differ in numbers alone."""
    return set()


def test_it_loads_again_with_the_same_logits_and_exports(method: str, compressed: Job, exported: set[str], tmp_path: Path) -> None:
    network = copy.deepcopy(compressed.network)
    before = right(network, photographs()[1])
    network.load_state_dict(round_trip(network.state_dict()))
    pack(compressed.network.state_dict(), tmp_path / "n.safetensors")
    loaded = load_twin(str(tmp_path / "n.safetensors"), arch=compressed.arch)
    x = to_tensor(photographs()[1].images[:16]).contiguous()
    with torch.no_grad():
        expected = loaded.module(x)
        assert torch.equal(network.eval().to(memory_format=torch.contiguous_format)(x), expected)
    assert abs(right(loaded.module, photographs()[1]) - before) <= 0.01, "float16 changed its answers"

    if compressed.arch in exported:
        return
    exported.add(compressed.arch)
    artefact = export_flavour(
        loaded.module, "onnx-fp32", input_shape=SHAPE, source_sha256=loaded.sha256, calibration_images=photographs()[0].images[:8],
        calibration_method="minmax", folder=tmp_path,
    )  # fmt: skip
    (found,) = open_session(str(artefact.path)).run([artefact.output_name], {artefact.input_name: x.numpy()})
    close = np.isclose(found, expected.numpy(), rtol=1e-3, atol=1e-3).all(1)
    # A quantized activation may fall on the other side of a rounding edge in another order of summation.
    assert close.mean() >= (0.8 if ":a" in compressed.arch else 1.0)


def test_the_start_s_zeros_and_grids_are_kept(method: str, start: Job, compressed: Job) -> None:
    """Training moves weights within the pattern or grid that was asked for, never out of it."""
    before = {n: p for n, p in start.network.named_parameters() if p.ndim > 1}
    after = {n: p for n, p in compressed.network.named_parameters() if p.ndim > 1}
    assert [tuple(p.shape) for p in before.values()] == [tuple(p.shape) for p in after.values()]
    zeros = [[int((p == 0).sum()) for p in found.values()] for found in (before, after)]
    if METHODS[method].patterns:
        assert zeros[0] == zeros[1] and sum(zeros[1]) > 0
    if method.endswith("int8"):
        for weight in after.values():
            torch.testing.assert_close(SymmetricWeight()(weight), weight, rtol=1e-5, atol=1e-8)
    if method == "lowbit":
        assert max(len(p.unique()) for p in list(after.values())[1:-1]) == 16


def test_its_constants_are_those_that_a_recipe_may_set(method: str, start: Job) -> None:
    assert start.notes.get("asked", set()) == set(METHODS[method].constants)


def test_its_shipped_recipes_fit(method: str) -> None:
    assert "cpu" in shipped(method)
    for name in shipped(method):
        recipe = load_recipe(name, method, METHODS[method].stages, 0, METHODS[method].constants)
        assert list(recipe.stages) == list(METHODS[method].stages)


def test_the_command_s_help_names_it(method: str) -> None:
    from harness.commands.compress import EPILOG

    assert f" {method}" in EPILOG


UNPUBLISHED = {"magnitude", "lowbit", "qat-int8", "kd"}


def test_it_has_the_paper_s_schedule_or_says_that_there_is_none(method: str) -> None:
    if method not in UNPUBLISHED:
        load_recipe("paper", method, METHODS[method].stages, 0, METHODS[method].constants)
        return
    with pytest.raises(
        UsageError, match=f"{method} has no published schedule. Choices: cpu, {'standard, ' * (method == 'lowbit')}or a TOML file"
    ):
        load_recipe("paper", method, METHODS[method].stages, 0, METHODS[method].constants)


def test_the_rate_s_default_is_one(method: str) -> None:
    METHODS[method].rate(METHODS[method].default)
