"""Dropout that is on in evaluation mode too."""

from torch import Tensor, nn

from harness.selftest.network import Network, with_logits
from harness.stages.subject import Subject

CAUGHT_BY = "refused: answers differently each time"


def _logits(inner: Network, x: Tensor) -> Tensor:
    logits: Tensor = inner(nn.functional.dropout(x, 0.1, training=True))
    return logits


def subject(sound: Subject) -> Subject:
    """Attack and twin see another network at every call."""
    return with_logits(sound, _logits)
