"""Dropout that is on in evaluation mode too."""

from torch import Tensor, nn

from harness.selftest.network import Network, network, with_network
from harness.stages.subject import Subject

CAUGHT_BY = "refused: answers differently each time"


class _Masked(nn.Module):
    def __init__(self, inner: Network) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(nn.functional.dropout(x, 0.1, training=True))
        return logits


def subject(sound: Subject) -> Subject:
    """Attack and twin see another network at every call."""
    return with_network(sound, _Masked(network()))
