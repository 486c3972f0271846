"""A square root at zero: the gradient is not finite."""

import torch
from torch import Tensor, nn

from harness.selftest.network import Network, network, with_network
from harness.stages.subject import Subject

CAUGHT_BY = "refused: gradient"


class _Masked(nn.Module):
    def __init__(self, inner: Network) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x + 0 * torch.sqrt(0 * x))
        return logits


def subject(sound: Subject) -> Subject:
    """Finite logits, and NaN backwards."""
    return with_network(sound, _Masked(network()))
