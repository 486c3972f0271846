"""`--normalize`: the standardisation a network was trained with, put in front of it so that it takes images in [0, 1]."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

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
    if max(mean) > 1:
        raise UsageError(f"--normalize '{text}' has a mean of {max(mean):g}; images are 0 to 1. Is it of 0 to 255? Divide all by 255.")
    if min(std) <= 0:
        raise UsageError(f"--normalize '{text}' has a standard deviation of 0; expected positive numbers")
    return mean, std


TRIES = 4  # images that tell an input's scale
CLOSE = 1e-4  # of a value read back to the line through the others


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


class _FirstConvolution(TorchDispatchMode):
    """Keeps what the first convolution of a network is given."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.given: Tensor | None = None

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self.given is None and "convolution" in str(func):
            self.given = args[0].clone()
        return func(*args, **kwargs or {})


def own_scaling(network: nn.Module, shape: tuple[int, int, int]) -> tuple[list[float], list[float]] | None:
    """The (mean, standard deviation) of each channel by which a network standardises images in [0, 1] before its first convolution.

    Args:
        network: it runs on images of that `shape`, (channels, height, width).

    Returns:
        None where it does not, or where that cannot be seen: something other than one line per channel, another image size, no
        convolution. A scale that widens nothing, such as the `transform_input` of torchvision's Inception, is no standardisation.
    """
    images = torch.rand(TRIES, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), _FirstConvolution() as first:
        network(images)
    if first.given is None or first.given.shape != images.shape:
        return None
    x, y = (part.double().transpose(0, 1).flatten(1) for part in (images, first.given))  # (channels, values)
    middle_x, middle_y = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
    scale = ((x - middle_x) * (y - middle_y)).mean(1, keepdim=True) / (x - middle_x).square().mean(1, keepdim=True)
    if float((y - middle_y - scale * (x - middle_x)).abs().max()) > CLOSE * float(scale.abs().max()) or float(scale.min()) < 1 + CLOSE:
        return None
    return (middle_x - middle_y / scale).flatten().tolist(), (1 / scale).flatten().tolist()


def given_twice(network: nn.Module, text: str, shape: tuple[int, int, int]) -> str | None:
    """A remark where `--normalize` is given for a network, alone as its file holds it, that standardises its images itself."""
    if (own := own_scaling(network, shape)) is None:
        return None
    mean, std = (", ".join(f"{value:.3g}" for value in part) for part in own)
    return (
        f"the network standardises its images itself (mean {mean}, standard deviation {std}), and --normalize {text} does so before it: "
        "images are standardised twice. Leave --normalize out, unless it was trained so."
    )
