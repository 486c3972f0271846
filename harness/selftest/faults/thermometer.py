"""Pixels as sixteen steps, without a gradient (thermometer coding)."""

import torch
from torch import Tensor, nn

from harness.selftest.network import Network, network, with_network
from harness.stages.subject import Subject

CAUGHT_BY = "zero gradient"


class _Masked(nn.Module):
    def __init__(self, inner: Network) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(torch.round(15 * x) / 15)
        return logits


def subject(sound: Subject) -> Subject:
    """Rounded before the network."""
    return with_network(sound, _Masked(network()))
