"""Ripples over the input that turn every gradient away."""

import torch
from torch import Tensor, nn

from harness.selftest.network import Network, network, with_network
from harness.stages.subject import Subject

CAUGHT_BY = "large radius"


class _Masked(nn.Module):
    def __init__(self, inner: Network) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x + 0.01 * torch.sin(700 * x))
        return logits


def subject(sound: Subject) -> Subject:
    """Finer than the attack's steps."""
    return with_network(sound, _Masked(network()))
