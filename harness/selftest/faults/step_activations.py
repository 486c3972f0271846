"""Activations of one bit, without a gradient (w1a1)."""

from torch import Tensor, nn

from harness.selftest.network import Network, network, with_network
from harness.stages.subject import Subject

CAUGHT_BY = "zero gradient"


class _Masked(nn.Module):
    def __init__(self, inner: Network) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner.linear((self.inner.features(x) > 0.4).float()) + 0 * self.inner(x)
        return logits


def subject(sound: Subject) -> Subject:
    """The features as 0 or 1."""
    return with_network(sound, _Masked(network()))
