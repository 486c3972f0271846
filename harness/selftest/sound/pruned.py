"""A tenth of the weights of the twin is pruned, and the engine computes the pruned twin."""

from harness.selftest.network import network, with_network
from harness.stages.subject import Subject


def subject(sound: Subject) -> Subject:
    """The smallest of the largest layer."""
    pruned = network()
    weight = pruned.conv.weight.data
    weight[weight.abs() < weight.abs().flatten().kthvalue(weight.numel() // 10).values] = 0
    return with_network(sound, pruned)
