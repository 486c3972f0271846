"""Batch norms that take their statistics from the batch in evaluation mode too."""

from torch import Tensor, nn

from harness.selftest.network import Network, with_logits
from harness.stages.subject import Subject

CAUGHT_BY = "refused: batch"


def _logits(inner: Network, x: Tensor) -> Tensor:
    logits: Tensor = inner(nn.functional.batch_norm(x, None, None, training=True))
    return logits


def subject(sound: Subject) -> Subject:
    """An image's answer depends on the others."""
    return with_logits(sound, _logits)
