"""The network ends with a softmax."""

import torch
from torch import Tensor, nn

from harness.selftest.network import Network, network, with_network
from harness.stages.subject import Subject

CAUGHT_BY = "refused: probabilities"


class _Masked(nn.Module):
    def __init__(self, inner: Network) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = torch.softmax(self.inner(x), 1)
        return logits


def subject(sound: Subject) -> Subject:
    """Probabilities."""
    return with_network(sound, _Masked(network()))
