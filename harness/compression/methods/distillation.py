"""Distillation into a smaller student: plain (KD), adversarially robust (ARD, RSLAD) and introspective (IAD-I, IAD-II).

Divergences are summed over classes and averaged over images ("batchmean"). The published code of ARD and RSLAD averages over the C classes
too: there `kl_weight` = 1/C in a recipe gives its scale. Targets are detached. Attacks are made on the student.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.compression.job import Job
from harness.training.objectives import against_labels, divergence, logits, pgd
from harness.training.recipe import Stage
from harness.training.regime import Regime

Loss = Callable[["Distillation", nn.Module, Tensor, Tensor, Stage, torch.Generator], Tensor]


class Distillation(Regime):
    """A training whose loss asks fixed teachers: `ask(role, x)` gives logits without a gradient."""

    def __init__(self, job: Job, loss: Loss) -> None:
        self.job, self.formula = job, loss

    def loss(self, network: nn.Module, x: Tensor, y: Tensor, stage: Stage, generator: torch.Generator) -> Tensor:
        """The method's formula."""
        return self.formula(self, network, x, y, stage, generator)

    def ask(self, role: str, x: Tensor, stage: Stage) -> Tensor:
        """A teacher's logits (n, classes)."""
        with torch.no_grad():
            return logits(self.job.teachers[role], x, stage)

    def introspective(self, stage: Stage, published: float) -> bool:
        """Whether the warm-up is over, after which the student also listens to itself. `published` is the paper's share of the epochs."""
        return self.epoch > self.job.option("warmup_share", published) * stage.epochs


def soft(target: Tensor, found: Tensor, temperature: float) -> Tensor:
    """KL between two sets of logits (n, classes) at a temperature, the first being the target."""
    return divergence(target / temperature, found / temperature)


def each(target: Tensor, found: Tensor) -> Tensor:
    """`divergence` of every image, (n,)."""
    return F.kl_div(found.log_softmax(1), target.log_softmax(1), reduction="none", log_target=True).sum(1)


def kd(d: Distillation, network: nn.Module, x: Tensor, y: Tensor, stage: Stage, generator: torch.Generator) -> Tensor:
    """(1 - a) CE(S(x), y) + a t^2 KL(T_t(x) || S_t(x)); no adversary.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, section 2.
    """
    alpha, t = d.job.option("alpha", 0.9), d.job.option("temperature", 4.0)
    found = logits(network, x, stage)
    return (1 - alpha) * F.cross_entropy(found, y) + alpha * t**2 * soft(d.ask("robust", x, stage), found, t)


def ard(d: Distillation, network: nn.Module, x: Tensor, y: Tensor, stage: Stage, generator: torch.Generator) -> Tensor:
    """(1 - a) CE(S(x), y) + a t^2 KL(T_t(x) || S_t(x~)), x~ by PGD on the student's cross-entropy.

    Source: Goldblum et al., "Adversarially Robust Distillation", AAAI 2020, equation 3; a = 1, t = 30.
    """
    alpha, t, weight = d.job.option("alpha", 1.0), d.job.option("temperature", 30.0), d.job.option("kl_weight", 1.0)
    worst = against_labels(network, x, y, stage, generator)
    with torch.set_grad_enabled(alpha < 1):  # else, as in the published code, it only moves the batch norms' statistics
        hard = F.cross_entropy(logits(network, x, stage), y)
    return (1 - alpha) * hard + alpha * weight * t**2 * soft(d.ask("robust", x, stage), logits(network, worst, stage), t)


def rslad(d: Distillation, network: nn.Module, x: Tensor, y: Tensor, stage: Stage, generator: torch.Generator) -> Tensor:
    """5/6 KL(T(x) || S(x~)) + 1/6 KL(T(x) || S(x)), x~ by PGD on KL(T(x) || S(x~)). No hard label takes part.

    PGD starts anywhere in the ball, as for the other methods; the published code starts within 0.001 of the image.

    Source: Zi et al., "Revisiting Adversarial Robustness Distillation", ICCV 2021, equations 5 and 6.
    """
    target = d.ask("robust", x, stage)
    worst = pgd(network, x, stage, generator, lambda found: divergence(target, found))
    apart = 5 / 6 * divergence(target, logits(network, worst, stage)) + 1 / 6 * divergence(target, logits(network, x, stage))
    return d.job.option("kl_weight", 1.0) * apart


def trust(target: Tensor, y: Tensor, beta: float) -> Tensor:
    """How far to trust a teacher on each image: its probability of the true class, to the power beta; (n,)."""
    return target.softmax(1).gather(1, y[:, None]).squeeze(1) ** beta


def iad_1(d: Distillation, network: nn.Module, x: Tensor, y: Tensor, stage: Stage, generator: torch.Generator) -> Tensor:
    """a KL(T(x) || S(x~)) + a (1 - q) KL(S(x) || S(x~)) + (1 - a) CE(S(x), y), q = T(y | x~)^0.1; the self term after the warm-up.

    x~ is made by PGD on the student's cross-entropy.

    Source: Zhu et al., "Reliable Adversarial Distillation with Unreliable Teachers", ICLR 2022, equation 5;
    a = 1, warm-up 60 of 200 epochs.
    """
    alpha, beta = d.job.option("alpha", 1.0), d.job.option("beta", 0.1)
    worst = against_labels(network, x, y, stage, generator)
    found = logits(network, worst, stage)
    with torch.set_grad_enabled(alpha < 1):  # else it is only a target
        clean = logits(network, x, stage)
    loss = alpha * divergence(d.ask("robust", x, stage), found) + (1 - alpha) * F.cross_entropy(clean, y)
    if d.introspective(stage, 0.3):
        doubt = 1 - trust(d.ask("robust", worst, stage), y, beta)
        loss = loss + alpha * (doubt * each(clean.detach(), found)).mean()
    return loss


def iad_2(d: Distillation, network: nn.Module, x: Tensor, y: Tensor, stage: Stage, generator: torch.Generator) -> Tensor:
    """(1 - a1 - a2) CE(S(x~), y) + a1 [q KL(T_AT(x~) || S(x~)) + (1 - q) KL(S(x) || S(x~))] + a2 KL(T_ST(x~) || S(x~)).

    q = T_AT(y | x~)^0.1, and 1 until the warm-up is over. x~ is made by PGD on the student's cross-entropy.

    Source: Zhu et al., ICLR 2022, equation 6; a1 = 0.5, a2 = 0.25, warm-up 40 of 200 epochs.
    """
    alpha_1, alpha_2, beta = d.job.option("alpha_1", 0.5), d.job.option("alpha_2", 0.25), d.job.option("beta", 0.1)
    worst = against_labels(network, x, y, stage, generator)
    found, robust = logits(network, worst, stage), d.ask("robust", worst, stage)
    part = each(robust, found)
    if d.introspective(stage, 0.2):
        q = trust(robust, y, beta)
        with torch.no_grad():
            clean = logits(network, x, stage)
        part = q * part + (1 - q) * each(clean, found)
    standard = divergence(d.ask("standard", worst, stage), found)
    return (1 - alpha_1 - alpha_2) * F.cross_entropy(found, y) + alpha_1 * part.mean() + alpha_2 * standard


def distil(loss: Loss, job: Job) -> nn.Module:
    """Train the job's student by one of the losses above."""
    return job.train("distil", Distillation(job, loss))


METHODS = {name: partial(distil, loss) for name, loss in (("kd", kd), ("ard", ard), ("rslad", rslad), ("iad-1", iad_1), ("iad-2", iad_2))}
