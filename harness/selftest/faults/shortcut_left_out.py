"""A shortcut was lost in conversion."""

from torch import nn

from harness.selftest.network import network
from harness.selftest.run import of_module
from harness.selftest.serving import Answer

CAUGHT_BY = "clean parity"


def deploy(_: Answer) -> Answer:
    """The depthwise block adds nothing to what it was given."""
    made = network()
    made.bn3 = nn.BatchNorm2d(made.bn3.num_features, eps=1e6).eval()
    return of_module(made)
