"""How a network computes on images: in bfloat16 where the hardware multiplies it, and round convolutions that oneDNN gets wrong or slow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Size = int | tuple[int, ...]

NARROW = 8  # channels: one vector of AVX2


@cache
def native_bf16(kind: str = "cpu") -> bool:
    """Whether that kind of device, `cpu` or `cuda`, multiplies bfloat16 in hardware; elsewhere it is emulated, slower than float32."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@contextmanager
def arithmetic(kind: str, bf16: bool = True) -> Iterator[None]:
    """Around every forward pass whose gradient is wanted, on devices of that kind, `cpu` or `cuda`.

    Autocast to bfloat16 where they multiply it in hardware, and `bf16` says so; on a CPU with `_conv2d` in place of torch's.
    """
    with ExitStack() as stack:
        if bf16 and native_bf16(kind):
            stack.enter_context(torch.autocast(kind, torch.bfloat16))
        if kind == "cpu":
            stack.enter_context(_Convolutions())
        yield


class _Convolutions(TorchFunctionMode):
    """Calls `_conv2d` in place of torch's, whoever asks for it."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return (_conv2d if func is F.conv2d else func)(*args, **(kwargs or {}))


def _conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """torch's, but for two kinds of strided convolutions.

    Of an unpadded 1x1 kernel on fewer than 8 channels, oneDNN's weight gradient writes past its scratch memory (channels-last, AVX2,
    torch 2.14.1): it is given only the pixels that the stride does not skip, and no stride.

    Grouped ones stay in float32. Their bfloat16 gradient runs in oneDNN's reference code: measured on one core of an AVX512-BF16 CPU, torch
    2.14.1, the three of MobileNetV2-CIFAR x0.25 (64 images) take 121 of the 250 ms that a training step takes; in float32 7 ms.
    """
    down, across = _pair(stride)
    if max(down, across) == 1:
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    if weight.shape[1] < NARROW and tuple(weight.shape[2:]) == (1, 1) and padding in ("valid", 0, (0,), (0, 0)):
        input, stride = input[..., ::down, ::across], 1
    if groups == 1 or not torch.is_autocast_enabled("cpu"):
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    with torch.autocast("cpu", enabled=False):
        return F.conv2d(input.float(), weight.float(), bias if bias is None else bias.float(), stride, padding, dilation, groups)


def _pair(size: Size) -> tuple[int, int]:
    """(height, width) of what torch takes as one integer or two."""
    both = (size, size) if isinstance(size, int) else (*size, *size)[:2]
    return int(both[0]), int(both[1])
