"""The engine's batch norms take their statistics from the batch."""

from harness.selftest.network import network
from harness.selftest.run import of_module
from harness.selftest.serving import Answer

CAUGHT_BY = "fresh answers"


def deploy(_: Answer) -> Answer:
    """In training mode; the statistics that were kept stay as they were."""
    made = network().train()
    for part in (made.bn1, made.bn2, made.bn3, made.bn4):
        part.momentum = 0.0
    return of_module(made)
