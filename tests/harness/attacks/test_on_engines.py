"""Attacks on open engines: one table over the ways in which an engine can be there, held against linear models whose answer is known."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from linear import linear_data, linear_model, smallest_margin, without_ties
from quick_engines import SHAPE, opened, save_linear, silent, wanted
from torch import nn

from devices.host.profile import load_profile
from devices.host.session import EngineId
from devices.host.station import own_engine
from harness.attacks.access import Access
from harness.attacks.batch import Panel
from harness.attacks.sets import make_set
from harness.attacks.table import resolve
from harness.attacks.target import EngineTarget, Guided, GuidedTarget, ModuleTarget, Target, lifted
from harness.data.dataset import Dataset, to_tensor

pytestmark = pytest.mark.slow(20)

EPS = Fraction(8, 255)
Opener = Callable[[nn.Module, Path], AbstractContextManager[EngineTarget]]

# The engine of a user: a linear model, of which it tells its logits or its labels.
OWN = """
import json, sys
import numpy as np
weight, bias, labels = np.load(sys.argv[1]), np.load(sys.argv[2]), sys.argv[3] == "labels"
out = sys.stdout.buffer
def say(message):
    out.write(json.dumps(message).encode() + b"\\n"); out.flush()
say({"protocol": 1, "name": "own", "version": "1", "shape": [4, 4, 3], "classes": len(bias), "output": sys.argv[3]})
while (line := sys.stdin.buffer.readline()) and (said := json.loads(line))["op"] == "ask":
    x = np.frombuffer(sys.stdin.buffer.read(48 * said["n"]), np.uint8).reshape(-1, 4, 4, 3).transpose(0, 3, 1, 2).reshape(-1, 48)
    logits = (x.astype(np.float32) / np.float32(255)) @ weight.T + bias
    say({"n": said["n"]}); out.write((logits.argmax(1).astype("<i4") if labels else logits.astype("<f4")).tobytes()); out.flush()
"""


def own(output: str) -> Opener:
    @contextmanager
    def engine(model: nn.Module, folder: Path) -> Iterator[EngineTarget]:
        folder.mkdir()
        names = ("engine.py", "weight.npy", "bias.npy")
        (folder / names[0]).write_text(OWN)
        np.save(folder / names[1], model[1].weight.detach().numpy())  # type: ignore[index]
        np.save(folder / names[2], model[1].bias.detach().numpy())  # type: ignore[index]
        with own_engine("own", [sys.executable, *(str(folder / name) for name in names), output], silent) as session:
            yield EngineTarget(session)

    return engine


def on(device: str) -> Opener:
    @contextmanager
    def engine(model: nn.Module, folder: Path) -> Iterator[EngineTarget]:
        folder.mkdir()
        weight, bias = model[1].weight.detach().numpy(), model[1].bias.detach().numpy()  # type: ignore[index]
        save_linear(folder / "linear.onnx", weight.T, bias, output=["n", len(bias)])
        with opened(folder / "device", {EngineId("linear"): wanted(folder / "linear.onnx")}, load_profile(device)) as sessions:
            yield EngineTarget(sessions[EngineId("linear")])

    return engine


EMULATED = pytest.mark.skipif(not shutil.which("qemu-x86_64-static"), reason="qemu-x86_64-static is not installed")
ENGINES = {
    "local": on("host"),
    "emulated": pytest.param(on("x86-sse4"), marks=EMULATED),
    "own, logits": own("logits"),
    "own, labels": own("labels"),
}
UNEMULATED = [name for name in ENGINES if name != "emulated"]


@pytest.fixture(params=ENGINES.values(), ids=ENGINES)
def engine(request: pytest.FixtureRequest) -> Opener:
    return request.param  # type: ignore[no-any-return]


def subject(classes: int = 2) -> tuple[nn.Module, Dataset, np.ndarray]:
    """A linear model, 60 images, and which of them nothing in the ball can fool."""
    model = linear_model(classes)
    data = without_ties(model, linear_data(model, n=60, wrong=0), 8)
    robust = smallest_margin(model, data, 8) > 0
    assert 0.1 < robust.mean() < 0.9
    return model, data, robust


def attack(target: Target, data: Dataset, name: str, folder: Path, **options: object) -> tuple[np.ndarray, int]:
    """Who holds out, and the queries that the record tells."""
    index = np.arange(len(data))
    record, images = make_set(
        target.module, data, index, resolve(name), EPS, 0, source="S4", target=target.id, folder=folder, batch=25, **options
    )  # type: ignore[arg-type]
    assert np.abs(images[:].astype(int) - data.images).max() <= 8
    right = target.logits(images[:]).argmax(1) == data.labels
    assert record.target_accuracy == right.mean()
    return right, record.queries.total


def test_bpda_reaches_the_exact_optimum_of_every_engine(engine: Opener, tmp_path: Path) -> None:
    model, data, robust = subject()
    with engine(model, tmp_path / "engine") as target:
        right, _ = attack(GuidedTarget(target, model), data, "bpda-10", tmp_path / "sets")
    np.testing.assert_array_equal(right, robust)


# Under an emulator thousands of queries take long, and it is the same code that asks them.
@pytest.mark.parametrize("engine", [ENGINES[name] for name in UNEMULATED], ids=UNEMULATED, indirect=True)
def test_queries_alone_fool_most_of_what_can_be_fooled(engine: Opener, tmp_path: Path) -> None:
    """No claim of strength: each of these searches at random. What nothing can fool, it does not fool."""
    model, data, robust = subject()
    with engine(model, tmp_path / "engine") as target:
        name = "square-300" if target.access is Access.SCORES else "hopskipjump-600"
        right, queries = attack(target, data, name, tmp_path / "sets")
    assert right[robust].all()
    assert (~right).sum() >= 0.6 * (~robust).sum()
    assert queries < len(data) * int(name.rpartition("-")[2]) * 1.1


@pytest.mark.parametrize("name", ["bpda-5", "square-20", "square-warm-20", "hopskipjump-40", "noise", "cw-l2-2"])
def test_every_query_is_counted(name: str, tmp_path: Path) -> None:
    """The record's figure is what the session itself counted."""
    model, data, _ = subject()
    attacks = resolve(name)
    with own("logits")(model, tmp_path / "engine") as target:
        aimed = GuidedTarget(target, model) if attacks.access is Access.GRADIENT else target
        index, before = np.arange(len(data)), target.session.cost.images
        first = np.clip(data.images.astype(int) + 3, 0, 255).astype(np.uint8)
        record, _ = make_set(
            aimed.module, data, index, attacks, EPS, 0, source="S4", target="own", folder=tmp_path / "sets", batch=25, first=first
        )
        asked = target.session.cost.images - before
    assert record.n_attacked == len(data)
    assert record.queries.total == asked
    assert asked / len(data) <= record.queries.largest


def test_an_engine_whose_nearest_class_is_another_is_broken_by_its_own_margin_alone(tmp_path: Path) -> None:
    """Its biases push the class away that the twin is nearest to, and pull another: what fools the twin leads the wrong way."""
    twin = linear_model(3)
    data = linear_data(twin, n=240, wrong=0)
    with torch.no_grad():
        order = twin(to_tensor(data.images)).argsort(1, descending=True)
    data = data.subset(np.flatnonzero((order[:, 0] == 0) & (order[:, 1] == 1)))
    weaker = linear_model(3)
    with torch.no_grad():
        weaker[1].bias += torch.tensor([0.0, -3.0, 0.0])  # type: ignore[index,operator]
        logits = twin(to_tensor(data.images))
        weaker[1].bias[2] += 0.8 * (logits[:, 0] - logits[:, 2]).min()  # type: ignore[index,operator]
    replayed, images = make_set(twin, data, np.arange(len(data)), resolve("apgd-dlr"), EPS, 0, source="S1", folder=tmp_path / "s1")
    with own("logits")(weaker, tmp_path / "engine") as target:
        assert (target.logits(data.images).argmax(1) == data.labels).all()
        after_replay = (target.logits(images[:]).argmax(1) == data.labels).mean()
        adaptive, _ = attack(GuidedTarget(target, twin), data, "bpda-10", tmp_path / "s4")
        exact = smallest_margin(weaker, data, 8) > 0
    assert replayed.target_accuracy < 0.5 and after_replay > 0.05 + exact.mean(), "replay flatters the engine"
    np.testing.assert_array_equal(adaptive, exact)


def test_an_engine_that_goes_against_its_twins_gradient_is_broken_by_queries(tmp_path: Path) -> None:
    """Half of the engine's weights have the other sign: along the twin's gradient its margin does not move."""
    twin, data, _ = subject()
    other = linear_model(2)
    with torch.no_grad():
        other[1].weight[:, ::2] *= -1  # type: ignore[index,operator]
        other[1].bias -= other(torch.full((1, *SHAPE), 0.5))[0]  # type: ignore[index]
        right = twin(to_tensor(data.images)).argmax(1) == other(to_tensor(data.images)).argmax(1)
    data = data.subset(np.flatnonzero(right.numpy()))
    exact = smallest_margin(other, data, 8) > 0
    _, images = make_set(twin, data, np.arange(len(data)), resolve("pgd"), EPS, 0, source="S1", folder=tmp_path / "s1")
    with own("logits")(other, tmp_path / "engine") as target:
        replayed = target.logits(images[:]).argmax(1) == data.labels
        found, _ = attack(target, data, "square-300", tmp_path / "s4")
    assert (~replayed).sum() < (~found).sum()
    assert (~found).sum() >= 0.4 * (~exact).sum() >= 4, "its single pixels never lie in the last row or column: no more is to be had"


def test_square_goes_on_from_its_start(tmp_path: Path) -> None:
    """What begins at the optimum is fooled by the first query; what begins elsewhere is not."""
    model, data, robust = subject()
    _, best = make_set(model, data, np.arange(len(data)), resolve("pgd"), EPS, 0, source="S1", folder=tmp_path / "s1")
    right, few = attack(ModuleTarget(model), data, "square-warm-5", tmp_path / "warm", first=best)
    np.testing.assert_array_equal(right, robust)
    cold, _ = attack(ModuleTarget(model), data, "square-warm-5", tmp_path / "cold", first=data.images)
    assert cold.sum() > right.sum()
    again, many = attack(ModuleTarget(model), data, "square-5", tmp_path / "both", first=data.images)
    assert many > few and again.sum() <= cold.sum() + 5


def test_a_killed_set_asks_about_no_finished_batch_again(tmp_path: Path) -> None:
    model, data, _ = subject()
    whole, _ = attack(ModuleTarget(model, "own"), data, "square-20", tmp_path / "whole")
    with own("logits")(model, tmp_path / "engine") as target:
        real, asked = target.session.logits, []

        def until_killed(images: np.ndarray) -> np.ndarray:
            asked.append(len(images))
            if len(asked) == 40:
                raise KeyboardInterrupt
            return real(images)

        target.session.logits = until_killed  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            attack(target, data, "square-20", tmp_path / "sets")
        asked.clear()
        first = list((tmp_path / "sets").glob("*.parts/*.npz"))
        assert len(first) == 1
        target.session.logits = lambda images: asked.append(images) or real(images)  # type: ignore[method-assign,func-returns-value]
        right, _ = attack(target, data, "square-20", tmp_path / "sets")
    finished = {image.tobytes() for image in data.images[:25]}
    assert not any(image.tobytes() in finished for images in asked[:-1] for image in images), "but to judge the whole set at the end"
    assert right.mean() == pytest.approx(whole.mean(), abs=0.1)


def test_nobody_is_asked_twice_about_the_same_candidate(tmp_path: Path) -> None:
    """Where the engine that is attacked sits on the panel, its answer is known."""
    model, data, _ = subject()
    with own("logits")(model, tmp_path / "engine") as target:
        for aimed, name in ((GuidedTarget(target, model), "bpda-5"), (target, "square-5")):
            before = target.session.cost.images
            panel = Panel([target], np.zeros((len(data), 1), np.bool_))
            record, _ = make_set(
                aimed.module,
                data,
                np.arange(len(data)),
                resolve(name),
                EPS,
                0,
                source="S4",
                folder=tmp_path / "sets",
                batch=60,
                panel=panel,
            )
            assert record.queries.total == target.session.cost.images - before


def test_a_guided_engine_has_the_engines_answers_and_the_guides_gradient(tmp_path: Path) -> None:
    model, guide = linear_model(3), linear_model(3, seed=1)
    images = to_tensor(linear_data(model, n=5).images).requires_grad_()
    with own("logits")(model, tmp_path / "engine") as target:
        guided = Guided(target, guide)
        answers = guided(images)
        assert torch.equal(answers.detach(), torch.from_numpy(target.logits(linear_data(model, n=5).images)))
    weights = torch.randn(answers.shape)
    (gradient,) = torch.autograd.grad((weights * answers).sum(), images)
    (expected,) = torch.autograd.grad((weights * guide(images)).sum(), images)
    assert torch.equal(gradient, expected)


def test_labels_come_out_on_top_of_the_guides_logits() -> None:
    guided = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [-50.0, 1.0, 2.0]])
    found = lifted(guided, torch.tensor([0, 1, 0]))
    assert found.argmax(1).tolist() == [0, 1, 0]
    assert torch.equal(found[0], guided[0])
    assert found[1, 1] > 3.0 and found[1, 1] == pytest.approx(3.0, abs=0.01)
    assert found[2, 0] == pytest.approx(2.0, abs=0.01) and guided[2, 0] == -50.0


class Extreme(nn.Module):
    """A model whose logits are all at the ends of float32, as of an engine that saturates: their differences lie beyond."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the same classes."""
        return (1e45 * self.model(x).double()).clamp(-3.4e38, 3.4e38).float()


def test_logits_at_the_ends_of_their_type_are_attacked_by_queries(tmp_path: Path) -> None:
    model, data, robust = subject()
    right, _ = attack(ModuleTarget(Extreme(model)), data, "square-20", tmp_path / "sets")
    assert right[robust].all() and not right.all()
