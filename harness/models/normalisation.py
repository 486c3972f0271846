"""`--normalize`: the standardisation a network was trained with, put in front of it so that it takes images in [0, 1]."""

from __future__ import annotations

import re

from torch import Tensor, nn

from harness.errors import UsageError
from harness.models.resnet import CIFAR10_MEAN, CIFAR10_STD, Normalize

PRESETS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": (CIFAR10_MEAN, CIFAR10_STD),
}


def parse_normalisation(text: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Read `imagenet`, `cifar10` or MEAN/STD, each one number or one per channel: `0.5/0.5`, `0.5,0.4,0.4/0.2,0.2,0.2`.

    Returns:
        (mean, standard deviation), one value per channel, on the [0, 1] scale.

    Raises:
        UsageError: another form, another number of channels, or a standard deviation that is not positive.
    """
    mean: tuple[float, ...]
    std: tuple[float, ...]
    if text in PRESETS:
        mean, std = PRESETS[text]
    else:
        number = r"\d*\.?\d+"
        match = re.fullmatch(rf"({number}(?:,{number})*)/({number}(?:,{number})*)", text.replace(" ", ""))
        if match is None:
            raise UsageError(
                f"--normalize '{text}' is not known. Choices: {', '.join(PRESETS)}, MEAN/STD such as 0.5,0.5,0.5/0.25,0.25,0.25."
            )
        mean, std = (tuple(map(float, part.split(","))) for part in match.groups())
        mean, std = (part * channels if len(part) == 1 else part for part in (mean, std))
    if len(mean) != channels or len(std) != channels:
        raise UsageError(f"--normalize '{text}' has {len(mean)} means and {len(std)} deviations; the model takes {channels} channels")
    if min(std) <= 0:
        raise UsageError(f"--normalize '{text}' has a standard deviation of 0; expected positive numbers")
    return mean, std


class Standardised(nn.Module):
    """A network behind its standardisation: takes images (n, c, h, w) in [0, 1]."""

    def __init__(self, normalize: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.normalize, self.network = normalize, network

    def forward(self, x: Tensor) -> Tensor:
        """Images -> what the network makes of them, standardised."""
        found: Tensor = self.network(self.normalize(x))
        return found


def with_normalisation(network: nn.Module, text: str | None, channels: int) -> nn.Module:
    """The network behind its standardisation; unchanged where `text` is None."""
    if text is None:
        return network
    return Standardised(Normalize(*parse_normalisation(text, channels)), network).eval()


def without_normalisation(network: nn.Module) -> nn.Module:
    """What `with_normalisation` was given: the network whose weights a file holds."""
    return network.network if isinstance(network, Standardised) else network
