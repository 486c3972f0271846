"""The engine computes the weights of an earlier epoch."""

from harness.selftest.network import network
from harness.selftest.run import of_module
from harness.selftest.serving import Answer

CAUGHT_BY = "clean parity"


def deploy(_: Answer) -> Answer:
    """The network in the middle of its training."""
    return of_module(network("epoch-4"))
