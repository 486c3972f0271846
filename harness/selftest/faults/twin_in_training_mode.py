"""Batch norms that take their statistics from the batch in evaluation mode too."""

from torch import Tensor, nn

from harness.selftest.network import Network, network, with_network
from harness.stages.subject import Subject

CAUGHT_BY = "refused: batch"


class _Masked(nn.Module):
    def __init__(self, inner: Network) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(nn.functional.batch_norm(x, None, None, training=True))
        return logits


def subject(sound: Subject) -> Subject:
    """An image's answer depends on the others."""
    return with_network(sound, _Masked(network()))
