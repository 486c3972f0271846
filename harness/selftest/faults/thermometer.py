"""Pixels as sixteen steps, without a gradient (thermometer coding)."""

import torch
from torch import Tensor

from harness.selftest.network import Network, with_logits
from harness.stages.subject import Subject

CAUGHT_BY = "zero gradient"


def _logits(inner: Network, x: Tensor) -> Tensor:
    logits: Tensor = inner(torch.round(15 * x) / 15)
    return logits


def subject(sound: Subject) -> Subject:
    """Rounded before the network."""
    return with_logits(sound, _logits)
