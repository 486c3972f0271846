"""A resize that looks up its pixels and has no gradient."""

from torch import Tensor, nn

from harness.selftest.network import Network, with_logits
from harness.stages.subject import Subject

CAUGHT_BY = "zero gradient"


def _logits(inner: Network, x: Tensor) -> Tensor:
    logits: Tensor = inner(nn.functional.interpolate(nn.functional.interpolate(x, 12).round(decimals=2), 16))
    return logits


def subject(sound: Subject) -> Subject:
    """Through 12 x 12 pixels."""
    return with_logits(sound, _logits)
