"""Variants of an architecture that compression makes, behind a colon: `resnet18x16:a4`, `resnet18x16:filters`, or one after another.

`aK` quantizes the activations to K bits wherever the network has a ReLU; `filters` has fewer channels, as many as its weights say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import UsageError
from harness.models.straight import straight_round

FILTERS = "filters"
RELUS = (nn.ReLU, nn.ReLU6)


def quantize(x: Tensor, bits: int) -> Tensor:
    """`x` in [0, 1] on 2^bits levels, with a straight-through gradient (Zhou et al., "DoReFa-Net", 2016, equation 5)."""
    levels = 2**bits - 1
    steps: Tensor = straight_round(x * levels) / levels
    return steps


class QuantizedReLU(nn.Module):
    """clip(a, 0, 1) on 2^bits levels; no gradient outside (0, 1) (DoReFa-Net, section 2.4)."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape of `x`."""
        return quantize(F.hardtanh(x, 0.0, 1.0), self.bits)  # as clamp, with a gradient of one pass

    def extra_repr(self) -> str:
        """The bits, so that the module's hash holds them."""
        return f"bits={self.bits}"


def split(arch: str) -> tuple[str, tuple[str, ...]]:
    """(architecture, its variants in order)."""
    base, *variants = arch.split(":")
    return base, tuple(variants)


def with_variant(arch: str, variant: str) -> str:
    """The name of `arch` in one more variant."""
    return arch if variant in split(arch)[1] else f"{arch}:{variant}"


def shape(network: nn.Module, variants: tuple[str, ...], arch: str) -> nn.Module:
    """Give a network its variants, in place; `filters` waits for the weights (`fit_to`).

    Raises:
        UsageError: unknown variant, or activations without a ReLU.
    """
    for variant in variants:
        bits = re.fullmatch(r"a([1-8])", variant)
        if bits:
            quantize_activations(network, int(bits[1]))
        elif variant != FILTERS:
            raise UsageError(
                f"architecture {arch}: unknown variant ':{variant}'. Expected :a1 to :a8 (bits of the activations) or :{FILTERS}."
            )
    return network


def quantize_activations(network: nn.Module, bits: int) -> None:
    """Replace every ReLU by a quantized one, in place.

    Raises:
        UsageError: there is none.
    """
    found = [(parent, name) for parent in network.modules() for name, child in parent.named_children() if isinstance(child, RELUS)]
    if not found:
        raise UsageError("the network has no ReLU module whose output could be quantized")
    for parent, name in found:
        setattr(parent, name, QuantizedReLU(bits))


def fit_to(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give convolutions, batch norms and linear layers the channel counts of `weights`, in place; their values are undefined.

    Weights of another rank are left: `check_keys` names them.
    """
    for name, layer in network.named_modules():
        weight = weights.get(f"{name}.weight")
        if weight is None or not isinstance(own := getattr(layer, "weight", None), Tensor) or weight.ndim != own.ndim:
            continue
        if isinstance(layer, nn.Conv2d):
            if 1 < layer.groups == layer.in_channels:
                layer.groups = weight.shape[0]
            layer.out_channels, layer.in_channels = weight.shape[0], weight.shape[1] * layer.groups
        elif isinstance(layer, nn.BatchNorm2d):
            layer.num_features = weight.shape[0]
        elif isinstance(layer, nn.Linear):
            layer.out_features, layer.in_features = weight.shape
        else:
            continue
        _resize(layer, name, weights)


def _resize(layer: nn.Module, name: str, weights: Mapping[str, Tensor]) -> None:
    for key, old in layer.state_dict().items():
        new = weights.get(f"{name}.{key}")
        if new is not None and old.shape != new.shape:
            fresh = torch.empty(new.shape)
            setattr(layer, key, nn.Parameter(fresh) if key in layer._parameters else fresh)
