"""Reduced precision of the computation in float32 weights: bfloat16 autocast, where the hardware multiplies it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


@cache
def native_bf16(kind: str = "cpu") -> bool:
    """Whether that kind of device, `cpu` or `cuda`, multiplies bfloat16 in hardware; elsewhere it is emulated, slower than float32."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@contextmanager
def bfloat16(kind: str, enabled: bool = True) -> Iterator[None]:
    """Autocast to bfloat16 on devices of that kind; nothing where they do not multiply it in hardware, or not `enabled`."""
    if not (enabled and native_bf16(kind)):
        yield
        return
    with torch.autocast(kind, torch.bfloat16):
        if kind == "cuda":
            yield
        else:
            with _Float32WhereSlow():
                yield


class _Float32WhereSlow(TorchFunctionMode):
    """Leaves strided grouped convolutions in float32.

    Their bfloat16 gradient runs in oneDNN's reference code: measured on one core of an AVX512-BF16 CPU, torch 2.14.1, the three of
    MobileNetV2-CIFAR x0.25 (64 images) take 121 of the 250 ms that a training step takes; in float32 7 ms.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return (_conv2d if func is F.conv2d else func)(*args, **(kwargs or {}))


def _conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, *rest: Any, **named: Any) -> Tensor:
    """torch's, in float32 if it is grouped and strided."""
    groups = rest[2] if len(rest) > 2 else named.get("groups", 1)
    slow = groups > 1 and max(stride if isinstance(stride, tuple | list) else (stride,)) > 1
    if not slow:
        return F.conv2d(input, weight, bias, stride, *rest, **named)
    with torch.autocast("cpu", enabled=False):
        return F.conv2d(input.float(), weight.float(), bias if bias is None else bias.float(), stride, *rest, **named)
