"""Ripples over the input that turn every gradient away."""

import torch
from torch import Tensor

from harness.selftest.network import Network, with_logits
from harness.stages.subject import Subject

CAUGHT_BY = "large radius"


def _logits(inner: Network, x: Tensor) -> Tensor:
    logits: Tensor = inner(x + 0.01 * torch.sin(700 * x))
    return logits


def subject(sound: Subject) -> Subject:
    """Finer than the attack's steps."""
    return with_logits(sound, _logits)
