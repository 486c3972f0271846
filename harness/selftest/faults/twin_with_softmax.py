"""The network ends with a softmax."""

import torch
from torch import Tensor

from harness.selftest.network import Network, with_logits
from harness.stages.subject import Subject

CAUGHT_BY = "refused: probabilities"


def _logits(inner: Network, x: Tensor) -> Tensor:
    logits: Tensor = torch.softmax(inner(x), 1)
    return logits


def subject(sound: Subject) -> Subject:
    """Probabilities."""
    return with_logits(sound, _logits)
