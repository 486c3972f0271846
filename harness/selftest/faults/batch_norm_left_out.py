"""Batch norms were taken out and not folded into the convolutions."""

from torch import nn

from harness.selftest.network import network
from harness.selftest.run import of_module
from harness.selftest.serving import Answer

CAUGHT_BY = "clean parity"


def deploy(_: Answer) -> Answer:
    """The network without two of them."""
    made = network()
    made.bn1, made.bn4 = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    return of_module(made)
