"""Which weights lie on a grid: few distinct values, or INT8 codes times one scale per output."""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 2**8  # more distinct values than this are float
INT8 = 127  # symmetric
ROUNDING = 1e-5  # relative: what float32 leaves of an exact product


def levels(tensor: Tensor) -> Tensor | None:
    """The distinct values, ascending, of a tensor that has few: at most 256, each non-zero one used twice on average; None of others."""
    values = torch.unique(tensor)
    return values if len(values) <= LEVELS and 2 * int(values.count_nonzero()) <= int(tensor.count_nonzero()) else None


def width(count: int) -> int:
    """Bits that tell `count` levels apart: at least one."""
    return max(1, (count - 1).bit_length())


def int8(tensor: Tensor) -> tuple[Tensor, Tensor] | None:
    """(codes, scales) of a tensor (outputs, …) whose every output is int8 codes, the largest 127 or -127, times a scale; None of others.

    Codes are int8 in the tensor's shape, scales float32 (outputs,).
    """
    scales = tensor.flatten(1).abs().amax(1) / INT8
    spread = per_output(scales, tensor)
    codes = (tensor / spread.clamp_min(torch.finfo(tensor.dtype).tiny)).round()
    return (codes.to(torch.int8), scales) if torch.allclose(codes * spread, tensor, rtol=ROUNDING, atol=0) else None


def per_output(scales: Tensor, tensor: Tensor) -> Tensor:
    """Scales (outputs,) shaped to multiply a tensor (outputs, …)."""
    return scales.view(-1, *[1] * (tensor.ndim - 1))
