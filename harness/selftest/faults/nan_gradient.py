"""A square root at zero: the gradient is not finite."""

import torch
from torch import Tensor

from harness.selftest.network import Network, with_logits
from harness.stages.subject import Subject

CAUGHT_BY = "refused: gradient"


def _logits(inner: Network, x: Tensor) -> Tensor:
    logits: Tensor = inner(x + 0 * torch.sqrt(0 * x))
    return logits


def subject(sound: Subject) -> Subject:
    """Finite logits, and NaN backwards."""
    return with_logits(sound, _logits)
