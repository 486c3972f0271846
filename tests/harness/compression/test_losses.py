"""Every loss against its formula in NumPy, on a linear network of two classes, whose worst image in a ball is known exactly.

With z = W x + b and two classes, any loss that falls or rises with the margin z0 - z1 alone is worst at a corner of the ball: the image
moved by eps against, or along, the sign of the weights' difference.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.compression.job import Job
from harness.compression.methods import distillation
from harness.compression.methods.distillation import Distillation
from harness.compression.recipe import CompressionRecipe
from harness.compute.placement import CPU
from harness.data.dataset import Dataset
from harness.training.folding import folded
from harness.training.objectives import OBJECTIVES, divergence, n_fgsm, pgd, trades
from harness.training.recipe import Stage

Array = NDArray[np.float64]
EPS = 8 / 255
X = np.array([[0.3, 0.6, 0.5], [0.7, 0.2, 0.4], [0.45, 0.55, 0.35], [0.6, 0.4, 0.65]])
Y = np.array([0, 1, 1, 0])
STUDENT = (np.array([[1.5, -2.0, 0.5], [-1.0, 1.0, 2.5]]), np.array([0.2, -0.1]))
ROBUST = (np.array([[4.0, -1.0, 1.0], [-3.0, 2.0, -1.0]]), np.array([-1.9, 1.7]))
STANDARD = (np.array([[-2.0, 3.0, 0.0], [1.0, -1.0, 1.0]]), np.array([0.3, 0.0]))
Linear = tuple[Array, Array]


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hand-computed values are met in float32 proper, on a machine with a GPU too."""
    monkeypatch.setattr("harness.compression.job.device", lambda: CPU)


def network(weights: Linear) -> nn.Module:
    linear = nn.Linear(3, 2)
    linear.weight.data, linear.bias.data = (torch.tensor(part, dtype=torch.float32) for part in weights)
    return nn.Sequential(nn.Flatten(), linear)


def stage(objective: str = "pgd-at", **changes: object) -> Stage:
    return Stage(**{"name": "t", "objective": objective, "epochs": 10, "lr": 0.1, "bf16": False, "beta": 6, **changes})


def images() -> Tensor:
    return torch.tensor(X, dtype=torch.float32).view(4, 3, 1, 1)


def labels() -> Tensor:
    return torch.tensor(Y)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


# The formulas, in NumPy and float64.
def z(weights: Linear, x: Array) -> Array:
    return x @ weights[0].T + weights[1]


def log_softmax(logits: Array) -> Array:
    top = logits.max(1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))


def ce(logits: Array) -> Array:
    return -log_softmax(logits)[np.arange(4), Y]


def kl(target: Array, found: Array, t: float = 1.0) -> Array:
    p, q = log_softmax(target / t), log_softmax(found / t)
    return (np.exp(p) * (p - q)).sum(1)


def uniform(radius: float) -> Array:
    return (torch.rand(4, 3, generator=generator()).double().numpy() * 2 - 1) * radius


def corner(x: Array, rises_with_margin: Array) -> Array:
    """The image of the ball with the largest margin z0 - z1 where `rises_with_margin` is 1, the smallest where it is -1."""
    away = np.sign(STUDENT[0][0] - STUDENT[0][1])
    return x + EPS * rises_with_margin[:, None] * away


def against_labels() -> Array:
    """Worst for the cross-entropy: the margin of the true class falls."""
    return corner(X, np.where(Y == 0, -1.0, 1.0))


def against(target: Array) -> Array:
    """Worst for KL(target || S(x)): convex in the margin, least where both margins are equal, so away from there."""
    margin = np.diff(z(STUDENT, X))[:, 0] * -1
    goal = np.diff(target)[:, 0] * -1
    reach = EPS * np.abs(STUDENT[0][0] - STUDENT[0][1]).sum()
    assert (np.abs(margin - goal) > reach).all(), "the ball holds the minimum: both corners could be the worst"
    return corner(X, np.sign(margin - goal))


def from_the_start() -> Array:
    """Worst for KL(S(x) || S(x~)), whose minimum is x itself: the corner on the side where the random start lies."""
    return corner(X, np.sign(uniform(EPS) @ (STUDENT[0][0] - STUDENT[0][1])))


@pytest.mark.parametrize(("steps", "size"), [(1, 1.25), (2, 0.625), (5, 0.25), (10, 0.25)])
def test_pgd_on_a_linear_network_is_exact(steps: int, size: float) -> None:
    """Every step goes towards the same corner, `size` radii far, and stops at the ball's edge."""
    found = pgd(network(STUDENT), images(), stage(steps=steps), generator(), lambda f: nn.functional.cross_entropy(f, labels()))
    away = np.sign(against_labels() - X)
    expected = X + np.clip(uniform(EPS) + steps * size * EPS * away, -EPS, EPS)
    np.testing.assert_allclose(found.view(4, 3).numpy(), expected, atol=1e-6)
    if steps == 10:
        np.testing.assert_allclose(expected, against_labels())


def objective_value(name: str) -> float:
    worst = {
        "standard": X,
        "pgd-at": against_labels(),
        "n-fgsm": X + uniform(2 * EPS) + (against_labels() - X),
    }
    if name != "trades":
        return float(ce(z(STUDENT, worst[name])).mean())
    clean = z(STUDENT, X)
    return float((ce(clean) + 6 * kl(clean, z(STUDENT, from_the_start()))).mean())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_are_their_formulas(name: str) -> None:
    found = OBJECTIVES[name](network(STUDENT), images(), labels(), stage(name), generator())
    assert found.item() == pytest.approx(objective_value(name), rel=1e-5)


def job(options: dict[str, float] | None = None, robust: nn.Module | None = None) -> Job:
    """As much of a job as a distillation's loss asks for."""
    data = Dataset("none", np.zeros((1, 1, 1, 3), np.uint8), np.zeros(1, np.int64))
    recipe = CompressionRecipe(description="", stages={"distil": stage()}, options=options or {})
    teachers = {"robust": robust or network(ROBUST), "standard": network(STANDARD)}
    return Job(network(STUDENT), "", (3, 1, 1), data, "", recipe, Path("none"), teachers=teachers)


def value(
    name: str, options: dict[str, float] | None = None, epoch: int = 1, subject: nn.Module | None = None, **teachers: nn.Module
) -> Tensor:
    formula = {
        "kd": distillation.kd, "ard": distillation.ard, "rslad": distillation.rslad,
        "iad-1": distillation.iad_1, "iad-2": distillation.iad_2,
    }[name]  # fmt: skip
    regime = Distillation(job(options), formula)
    regime.job.teachers.update(teachers)
    regime.epoch = epoch
    return regime.loss(subject or network(STUDENT), images(), labels(), stage(), generator())


def q() -> Array:
    return np.exp(log_softmax(z(ROBUST, against_labels())))[np.arange(4), Y] ** 0.1


S, T, T_ST = (lambda x, w=w: z(w, x) for w in (STUDENT, ROBUST, STANDARD))
FORMULAS: dict[str, tuple[str, dict[str, float], int, Callable[[Array], Array]]] = {
    "kd": ("kd", {}, 1, lambda w: 0.1 * ce(S(X)) + 0.9 * 16 * kl(T(X), S(X), 4)),
    "kd, other constants": ("kd", {"alpha": 0.4, "temperature": 2}, 1, lambda w: 0.6 * ce(S(X)) + 0.4 * 4 * kl(T(X), S(X), 2)),
    "ard": ("ard", {}, 1, lambda w: 900 * kl(T(X), S(w), 30)),
    "ard, alpha 0.7": ("ard", {"alpha": 0.7, "temperature": 5}, 1, lambda w: 0.3 * ce(S(X)) + 0.7 * 25 * kl(T(X), S(w), 5)),
    "rslad": ("rslad", {}, 1, lambda w: 5 / 6 * kl(T(X), S(against(T(X)))) + 1 / 6 * kl(T(X), S(X))),
    "ard, averaged over the classes": (
        "ard", {"alpha": 0.7, "kl_weight": 0.5}, 1, lambda w: 0.3 * ce(S(X)) + 0.7 * 900 * 0.5 * kl(T(X), S(w), 30)
    ),
    "rslad, averaged over the classes": (
        "rslad", {"kl_weight": 0.5}, 1, lambda w: 0.5 * (5 / 6 * kl(T(X), S(against(T(X)))) + 1 / 6 * kl(T(X), S(X)))
    ),
    "iad-1, warm-up": ("iad-1", {}, 3, lambda w: kl(T(X), S(w))),
    "iad-1": ("iad-1", {}, 4, lambda w: kl(T(X), S(w)) + (1 - q()) * kl(S(X), S(w))),
    "iad-1, alpha 0.8": (
        "iad-1", {"alpha": 0.8}, 4, lambda w: 0.8 * kl(T(X), S(w)) + 0.8 * (1 - q()) * kl(S(X), S(w)) + 0.2 * ce(S(X))
    ),
    "iad-2, warm-up": ("iad-2", {}, 2, lambda w: 0.25 * ce(S(w)) + 0.5 * kl(T(w), S(w)) + 0.25 * kl(T_ST(w), S(w))),
    "iad-2": (
        "iad-2", {}, 3,
        lambda w: 0.25 * ce(S(w)) + 0.5 * (q() * kl(T(w), S(w)) + (1 - q()) * kl(S(X), S(w))) + 0.25 * kl(T_ST(w), S(w)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FORMULAS)
def test_distillation_losses_are_their_formulas(case: str) -> None:
    name, options, epoch, formula = FORMULAS[case]
    # At t = 30 float32 leaves four digits of a divergence.
    assert value(name, options, epoch).item() == pytest.approx(formula(against_labels()).mean(), rel=1e-3)


class Constant(nn.Module):
    """A student that answers every image alike: then x~ and x are the same to it, and so is a teacher that is its copy."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.3, -0.9]))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), 2) + 0 * x.sum()


@pytest.mark.parametrize(
    ("name", "share"), [("kd", 0.1), ("ard", 0.0), ("rslad", 0.0), ("iad-1", 0.0), ("iad-2", 0.25)], ids=lambda v: str(v)
)
def test_a_student_that_equals_its_teachers_has_the_labels_part_alone(name: str, share: float) -> None:
    """KL(T || T) is 0, so the loss is the hard-label term's share of the cross-entropy, and only that moves the student."""
    subject = Constant()
    loss = value(name, {}, 10, subject, robust=Constant(), standard=Constant())
    hard = nn.functional.cross_entropy(subject(images()), labels())
    assert loss.item() == pytest.approx(share * hard.item(), abs=1e-6)
    (moved,) = torch.autograd.grad(loss, subject.logits)
    (expected,) = torch.autograd.grad(share * hard, subject.logits)
    torch.testing.assert_close(moved, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("name", "passes"), [("ard", 2), ("iad-1", 2), ("rslad", 2), ("kd", 1)])
def test_clean_images_pass_the_batch_norms_as_published(name: str, passes: int) -> None:
    """Of ARD too, whose loss at alpha = 1 does not use the answers: in the published code they move the running statistics."""
    subject = nn.Sequential(nn.BatchNorm2d(3), network(STUDENT)).train()
    value(name, {}, 1, subject)
    assert int(subject[0].num_batches_tracked) == passes


def test_targets_take_no_gradient() -> None:
    """The student's own clean answer is a constant of the introspective terms: their gradient is that of the formula with S(x) fixed."""
    for name in ("iad-1", "iad-2"):
        subject, robust, standard = network(STUDENT), network(ROBUST), network(STANDARD)
        value(name, {}, 10, subject, robust=robust, standard=standard).backward()
        assert all(p.grad is None for teacher in (robust, standard) for p in teacher.parameters())
        worst, fixed = torch.tensor(against_labels(), dtype=torch.float32), network(STUDENT)(images()).detach()
        again = network(STUDENT)
        found, trust = again(worst), torch.tensor(q())
        t_clean, t_worst, st = robust(images()).detach(), robust(worst).detach(), standard(worst).detach()
        each = lambda a, b: (a.softmax(1) * (a.log_softmax(1) - b.log_softmax(1))).sum(1)  # noqa: E731
        own = (1 - trust) * each(fixed, found)
        loss = {
            "iad-1": each(t_clean, found) + own,
            "iad-2": 0.25 * nn.functional.cross_entropy(found, labels(), reduction="none")
            + 0.5 * (trust * each(t_worst, found) + own)
            + 0.25 * each(st, found),
        }[name]
        loss.mean().backward()
        torch.testing.assert_close(subject[1].weight.grad, again[1].weight.grad, rtol=1e-3, atol=1e-5)


def test_divergence_is_summed_over_classes_and_averaged_over_images() -> None:
    target, found = z(ROBUST, X), z(STUDENT, X)
    as_tensor = lambda a: torch.tensor(a, dtype=torch.float64)  # noqa: E731
    assert divergence(as_tensor(target), as_tensor(found)).item() == pytest.approx(kl(target, found).sum() / 4)
    sure = torch.tensor([[900.0, 0.0]] * 4, dtype=torch.float64)  # 0 log 0 is 0
    assert divergence(sure, as_tensor(found)).item() == pytest.approx(-log_softmax(found)[:, 0].mean())


class Recorder(nn.Module):
    """Writes down in which mode it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.modes = network(STUDENT), []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append(self.training)
        return self.inner(x)


def recorder() -> Recorder:
    """In train mode, and traced once already: what is folded is found at the first attack."""
    subject = Recorder().train()
    with folded(subject):
        subject.modes.clear()
    return subject


@pytest.mark.parametrize(
    ("objective", "modes"),
    [
        (n_fgsm, [False, True]),
        (OBJECTIVES["pgd-at"], [False] * 3 + [True]),
        (trades, [False] + [False] * 3 + [True, True]),
        (OBJECTIVES["standard"], [True]),
    ],
)
def test_attacks_are_made_in_eval_mode(objective: Callable[..., Tensor], modes: list[bool]) -> None:
    subject = recorder()
    objective(subject, images(), labels(), stage(steps=3), generator())
    assert subject.modes == modes and subject.training
    assert all(p.grad is None for p in subject.parameters()), "an attack left a gradient behind"


@pytest.mark.parametrize("name", ["ard", "rslad", "iad-1", "iad-2"])
def test_distillations_attack_in_eval_mode_too(name: str) -> None:
    subject = recorder()
    value(name, {}, 10, subject)
    assert subject.modes[:10] == [False] * 10 and all(subject.modes[10:]) and subject.training
