"""The engine computes a network that is right on as many clean images and was never trained against an adversary."""

from harness.selftest.network import network
from harness.selftest.run import of_module
from harness.selftest.serving import Answer

CAUGHT_BY = "engine parity"


def deploy(_: Answer) -> Answer:
    """Its own gradients fool it on every image; those of the network it stands for do not."""
    return of_module(network("standard"))
