"""The device runs a plan that was built of another model."""

import torch

from harness.selftest.network import Network
from harness.selftest.run import of_module
from harness.selftest.serving import Answer

CAUGHT_BY = "engine parity"


def deploy(_: Answer) -> Answer:
    """A network that was never trained."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return of_module(Network().eval())
