"""Activations of one bit, without a gradient (w1a1)."""

from torch import Tensor

from harness.selftest.network import Network, with_logits
from harness.stages.subject import Subject

CAUGHT_BY = "zero gradient"


def _logits(inner: Network, x: Tensor) -> Tensor:
    logits: Tensor = inner.linear((inner.features(x) > 0.4).float()) + 0 * inner(x)
    return logits


def subject(sound: Subject) -> Subject:
    """The features as 0 or 1."""
    return with_logits(sound, _logits)
