"""ONNX operators that slide a window (convolution, pooling), pad, or resize."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, floor, prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.models.onnx_sizes import ints

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE_POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def pads(attributes: dict[str, Any], x: Tensor, kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    """(pads before, pads after) of the spatial axes, from `pads` or `auto_pad`."""
    n = len(kernel)
    mode = attributes.get("auto_pad", "NOTSET")
    if mode == "NOTSET":
        given = attributes.get("pads", [0] * 2 * n)
        return given[:n], given[n:]
    if mode == "VALID":
        return [0] * n, [0] * n
    strides, dilations = attributes.get("strides", [1] * n), attributes.get("dilations", [1] * n)
    total = [
        max((ceil(size / stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
        for size, stride, dilation, k in zip(x.shape[2:], strides, dilations, kernel, strict=True)
    ]
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return (small, large) if mode == "SAME_UPPER" else (large, small)


def pad_spatial(x: Tensor, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Tensor:
    """Pad the spatial axes with a constant; PyTorch lists the last axis first."""
    return F.pad(x, [p for pair in zip(reversed(before), reversed(after), strict=True) for p in pair], value=value)


def conv(attributes: dict[str, Any], x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Conv: x (n, c, *space), weight (out, c / groups, *kernel)."""
    n = weight.ndim - 2
    before, after = pads(attributes, x, weight.shape[2:])
    padding = before
    if before != after:
        x, padding = pad_spatial(x, before, after), [0] * n
    convolve = CONVOLUTIONS[n]
    strides, dilations = attributes.get("strides", [1] * n), attributes.get("dilations", [1] * n)
    return convolve(x, weight, bias, strides, padding, dilations, attributes.get("group", 1))


def _ceil_extra(x: Tensor, attributes: dict[str, Any], before: list[int], after: list[int], kernel: list[int]) -> list[int]:
    """What `ceil_mode` adds behind: the last window starts inside the image or its front pads, and may reach beyond its back pads."""
    n = len(kernel)
    strides, dilations = attributes.get("strides", [1] * n), attributes.get("dilations", [1] * n)
    extra = []
    for size, stride, dilation, k, front, back in zip(x.shape[2:], strides, dilations, kernel, before, after, strict=True):
        reach = dilation * (k - 1) + 1
        windows = ceil((size + front + back - reach) / stride) + 1 if attributes.get("ceil_mode", 0) else 1
        if (windows - 1) * stride >= size + front:
            windows -= 1
        extra.append(max((windows - 1) * stride + reach - size - front - back, 0))
    return extra


def max_pool(attributes: dict[str, Any], x: Tensor) -> Tensor:
    """MaxPool, without the indices."""
    kernel = attributes["kernel_shape"]
    n = len(kernel)
    before, after = pads(attributes, x, kernel)
    extra = _ceil_extra(x, attributes, before, after, kernel)
    if any(before) or any(after) or any(extra):
        x = pad_spatial(x, before, [a + e for a, e in zip(after, extra, strict=True)], -torch.inf)
    return MAX_POOLS[n](x, kernel, attributes.get("strides", [1] * n), 0, attributes.get("dilations", [1] * n))


def average_pool(attributes: dict[str, Any], x: Tensor) -> Tensor:
    """AveragePool. The mean over what counts is the mean over the padded window divided by the share of it that counts."""
    kernel = attributes["kernel_shape"]
    n = len(kernel)
    if any(d != 1 for d in attributes.get("dilations", [])):
        raise NotImplementedError("AveragePool with dilations")
    pool, strides = AVERAGE_POOLS[n], attributes.get("strides", [1] * n)
    before, after = pads(attributes, x, kernel)
    extra = _ceil_extra(x, attributes, before, after, kernel)
    if not (any(before) or any(after) or any(extra)):
        return pool(x, kernel, strides)
    counted = torch.ones_like(x[:1, :1])
    if attributes.get("count_include_pad", 0):
        counted, x = pad_spatial(counted, before, after, 1.0), pad_spatial(x, before, after)
        before = after = [0] * n
    behind = [a + e for a, e in zip(after, extra, strict=True)]
    return pool(pad_spatial(x, before, behind), kernel, strides) / pool(pad_spatial(counted, before, behind), kernel, strides)


def global_pool(attributes: dict[str, Any], x: Tensor) -> Tensor:
    """GlobalAveragePool: mean over every spatial axis, kept with size 1."""
    return x.mean(dim=list(range(2, x.ndim)), keepdim=True)


def global_max_pool(attributes: dict[str, Any], x: Tensor) -> Tensor:
    """GlobalMaxPool."""
    return x.amax(dim=list(range(2, x.ndim)), keepdim=True)


def pad(attributes: dict[str, Any], x: Tensor, amounts: Any, value: Any = None, axes: Any = None) -> Tensor:
    """Pad: constant, reflect or edge, also with negative amounts (a crop)."""
    listed, chosen = ints(amounts), ints(axes) if axes is not None else list(range(x.ndim))
    before, after = [0] * x.ndim, [0] * x.ndim
    for place, axis in enumerate(chosen):
        before[axis], after[axis] = listed[place], listed[len(chosen) + place]
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}[attributes.get("mode", "constant")]
    if mode == "constant":
        return pad_spatial(x, before, after, float(value) if value is not None else 0.0)
    if any(before[:2]) or any(after[:2]):
        raise NotImplementedError(f"Pad of batch or channels with mode {mode}")
    return F.pad(x, [p for pair in zip(reversed(before[2:]), reversed(after[2:]), strict=True) for p in pair], mode=mode)


def _coordinates(mode: str, out: int, size: int, scale: float) -> Tensor:
    """Where the `out` pixels of an axis lie in its old grid of `size` pixels (ONNX `coordinate_transformation_mode`)."""
    i = torch.arange(out, dtype=torch.float32)
    match mode:
        case "half_pixel":
            return (i + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            return (i + 0.5) / scale - 0.5 if out > 1 else torch.zeros(1)
        case "asymmetric":
            return i / scale
        case "align_corners":
            return i * ((size - 1) / (out - 1)) if out > 1 else torch.zeros(out)
        case _:
            raise NotImplementedError(f"Resize with coordinate_transformation_mode {mode}")


ROUNDINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "round_prefer_floor": lambda x: torch.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: torch.floor(x + 0.5),
    "floor": torch.floor,
    "ceil": torch.ceil,
}


def resize(attributes: dict[str, Any], x: Tensor, roi: Any = None, scales: Any = None, sizes: Any = None) -> Tensor:
    """Resize, nearest or linear, one axis after the other."""
    method = attributes.get("mode", "nearest")
    if (
        method not in ("nearest", "linear")
        or attributes.get("antialias", 0)
        or attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch"
    ):
        raise NotImplementedError(f"Resize with mode {method}, antialias or an aspect ratio policy")
    axes = attributes.get("axes", list(range(x.ndim)))
    if sizes is not None:
        factors = [out / x.shape[axis] for out, axis in zip(ints(sizes), axes, strict=True)]
        outs = ints(sizes)
    else:
        factors = ints(scales)
        outs = [x.shape[axis] if f == 1 else floor(x.shape[axis] * f) for f, axis in zip(factors, axes, strict=True)]
    for axis, out, factor in zip(axes, outs, factors, strict=True):
        if factor != 1:
            x = _resize_axis(attributes, x, axis, int(out), factor, method)
    return x


def _resize_axis(attributes: dict[str, Any], x: Tensor, axis: int, out: int, factor: float, method: str) -> Tensor:
    size = x.shape[axis]
    place = _coordinates(attributes.get("coordinate_transformation_mode", "half_pixel"), out, size, factor)
    if method == "nearest":
        index = ROUNDINGS[attributes.get("nearest_mode", "round_prefer_floor")](place)
        return x.index_select(axis, index.long().clamp(0, size - 1))
    low = place.floor()
    share = (place - low).view([-1 if a == axis else 1 for a in range(x.ndim)])
    left, right = (x.index_select(axis, i.long().clamp(0, size - 1)) for i in (low, low + 1))
    return left * (1 - share) + right * share


def depth_to_space(attributes: dict[str, Any], x: Tensor) -> Tensor:
    """DepthToSpace, modes DCR and CRD."""
    n, c, h, w = x.shape
    b = attributes["blocksize"]
    if attributes.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, b)
    return x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)


def space_to_depth(attributes: dict[str, Any], x: Tensor) -> Tensor:
    """SpaceToDepth."""
    n, c, h, w = x.shape
    b = attributes["blocksize"]
    return x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b**2, h // b, w // b)


def local_response(attributes: dict[str, Any], x: Tensor) -> Tensor:
    """LRN over channels (Krizhevsky et al., 2012, section 3.3)."""
    size = attributes["size"]
    squares = F.pad((x * x).unsqueeze(1), (0, 0) * (x.ndim - 2) + ((size - 1) // 2, size // 2))
    total = squares.unfold(2, size, 1).sum(-1).squeeze(1)
    alpha, beta, bias = attributes.get("alpha", 1e-4), attributes.get("beta", 0.75), attributes.get("bias", 1.0)
    return torch.div(x, (bias + alpha / size * total) ** beta)


def flatten(attributes: dict[str, Any], x: Tensor) -> Tensor:
    """Flatten to a matrix: the axes before `axis`, and the rest."""
    axis = attributes.get("axis", 1) % (x.ndim + 1) if attributes.get("axis", 1) >= 0 else attributes["axis"] + x.ndim
    return x.flatten(1) if axis == 1 and x.ndim > 1 else x.reshape(prod(x.shape[:axis]), -1)
