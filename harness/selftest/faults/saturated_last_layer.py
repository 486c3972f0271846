"""A last layer that saturates."""

import torch
from torch import Tensor

from harness.selftest.network import Network, with_logits
from harness.stages.subject import Subject

CAUGHT_BY = "zero gradient"


def _logits(inner: Network, x: Tensor) -> Tensor:
    logits: Tensor = torch.tanh(50 * inner(x))
    return logits


def subject(sound: Subject) -> Subject:
    """Between -1 and 1, and nearly always there."""
    return with_logits(sound, _logits)
