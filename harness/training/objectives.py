"""Training objectives: a function (network, images, labels, stage, generator) -> loss, in one table.

The network is in train mode when called; adversarial examples are made within the objective.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.compute.precision import arithmetic
from harness.errors import UsageError
from harness.training.folding import folded
from harness.training.recipe import Stage

Objective = Callable[[nn.Module, Tensor, Tensor, Stage, torch.Generator], Tensor]


def logits(network: nn.Module, x: Tensor, stage: Stage) -> Tensor:
    """float32 logits (n, classes) of images (n, c, h, w), computed under bf16 autocast where the stage says so and the hardware has it.

    Raises:
        UsageError: the network returns something else.
    """
    with arithmetic(x.device.type, stage.bf16):
        found = network(x)
    if not isinstance(found, Tensor):
        raise UsageError(f"in training the network returns {type(found).__name__}, not logits alone; switch its auxiliary outputs off")
    return found.float()


def cross_entropy(network: nn.Module, x: Tensor, y: Tensor, stage: Stage) -> Tensor:
    """Mean cross-entropy of images (n, c, h, w) with labels (n,)."""
    return F.cross_entropy(logits(network, x, stage), y, label_smoothing=stage.label_smoothing)


def divergence(target: Tensor, found: Tensor) -> Tensor:
    """KL(softmax(target) || softmax(found)) of logits (n, classes): summed over classes, averaged over images ("batchmean")."""
    return F.kl_div(found.log_softmax(1), target.log_softmax(1), reduction="batchmean", log_target=True)


def noise(x: Tensor, radius: float, generator: torch.Generator) -> Tensor:
    """Uniform in [-radius, radius], of the shape and on the device of `x` (n, c, h, w); drawn on the CPU, so that a seed means the same."""
    drawn = torch.rand(x.shape, generator=generator)
    return (drawn * 2 - 1).to(x.device, memory_format=torch.channels_last) * radius


def standard(network: nn.Module, x: Tensor, y: Tensor, stage: Stage, _: torch.Generator) -> Tensor:
    """Plain empirical risk."""
    return cross_entropy(network, x, y, stage)


def n_fgsm(network: nn.Module, x: Tensor, y: Tensor, stage: Stage, generator: torch.Generator) -> Tensor:
    """Noise-FGSM: one signed step of size eps from uniform noise of radius 2 eps, not clipped to the ball; made in eval mode.

    Source: de Jorge et al., "Make Some Noise: Reliable and Efficient Single-Step Adversarial Training", NeurIPS 2022, equation 6.
    """
    eps = stage.eps / 255
    network.eval()
    start = (x + noise(x, 2 * eps, generator)).requires_grad_()
    with folded(network):
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits(network, start, stage), y), start)
    network.train()
    return cross_entropy(network, (start.detach() + eps * gradient.sign()).clamp(0, 1), y, stage)


def pgd(network: nn.Module, x: Tensor, stage: Stage, generator: torch.Generator, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Images within the ball around `x` (n, c, h, w) that raise `loss`, a function of the logits: signed steps from a random start.

    A step is eps/4, or 1.25 eps/steps where the steps are so few that eps/4 would not reach from the middle of the ball to its edge. The
    network is in eval mode meanwhile, and in train mode afterwards.
    """
    eps = stage.eps / 255
    step = eps * max(0.25, 1.25 / stage.steps)
    network.eval()
    worst = (x + noise(x, eps, generator)).clamp(0, 1)
    with folded(network):
        for _ in range(stage.steps):
            worst.requires_grad_()
            (gradient,) = torch.autograd.grad(loss(logits(network, worst, stage)), worst)
            worst = (worst.detach() + step * gradient.sign()).clamp(x - eps, x + eps).clamp(0, 1)
    network.train()
    return worst


def against_labels(network: nn.Module, x: Tensor, y: Tensor, stage: Stage, generator: torch.Generator) -> Tensor:
    """PGD images that raise the cross-entropy with the labels (n,)."""
    return pgd(network, x, stage, generator, lambda found: F.cross_entropy(found, y))


def pgd_at(network: nn.Module, x: Tensor, y: Tensor, stage: Stage, generator: torch.Generator) -> Tensor:
    """PGD adversarial training.

    Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018, equation 2.1.
    """
    return cross_entropy(network, against_labels(network, x, y, stage, generator), y, stage)


def trades(network: nn.Module, x: Tensor, y: Tensor, stage: Stage, generator: torch.Generator) -> Tensor:
    """CE(S(x), y) + beta KL(S(x) || S(x~)), where x~ maximises the same divergence. KL is summed over classes, averaged over images.

    Source: Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy", ICML 2019, equation 5.
    """
    network.eval()
    with torch.no_grad():
        target = logits(network, x, stage)
    worst = pgd(network, x, stage, generator, lambda found: divergence(target, found))
    clean = logits(network, x, stage)
    natural = F.cross_entropy(clean, y, label_smoothing=stage.label_smoothing)
    return natural + stage.beta * divergence(clean, logits(network, worst, stage))


OBJECTIVES: dict[str, Objective] = {"standard": standard, "n-fgsm": n_fgsm, "pgd-at": pgd_at, "trades": trades}
