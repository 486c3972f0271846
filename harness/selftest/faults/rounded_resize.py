"""A resize that looks up its pixels and has no gradient."""

from torch import Tensor, nn

from harness.selftest.network import Network, network, with_network
from harness.stages.subject import Subject

CAUGHT_BY = "zero gradient"


class _Masked(nn.Module):
    def __init__(self, inner: Network) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(nn.functional.interpolate(nn.functional.interpolate(x, 12).round(decimals=2), 16))
        return logits


def subject(sound: Subject) -> Subject:
    """Through 12 x 12 pixels."""
    return with_network(sound, _Masked(network()))
