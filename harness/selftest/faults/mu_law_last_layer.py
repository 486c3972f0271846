"""A monotone last layer of rounded logarithms (mu-law)."""

import torch
from torch import Tensor

from harness.selftest.network import Network, with_logits
from harness.stages.subject import Subject

CAUGHT_BY = "zero gradient"


def _logits(inner: Network, x: Tensor) -> Tensor:
    logits: Tensor = torch.round(8 * inner(x).sign() * torch.log1p(255 * inner(x).abs()))
    return logits


def subject(sound: Subject) -> Subject:
    """Whole numbers, the order of the classes kept."""
    return with_logits(sound, _logits)
