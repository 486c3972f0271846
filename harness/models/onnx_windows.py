"""ONNX operators that slide a window (convolution, pooling), pad, or resize."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import ceil, floor, prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.models.onnx_sizes import numbers
from harness.models.onnx_support import KEPT, OPSET

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
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


def _torch_pads(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """PyTorch lists the last axis first."""
    return [p for pair in zip(reversed(before), reversed(after), strict=True) for p in pair]


def pad_spatial(x: Tensor, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Tensor:
    """Pad the last axes with a constant."""
    return F.pad(x, _torch_pads(before, after), value=value)


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


def conv_transpose(attributes: dict[str, Any], x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """ConvTranspose: x (n, c, *space), weight (c, out / groups, *kernel). Pads are cut off of what the windows reach."""
    n = weight.ndim - 2
    given = attributes.get("pads", [0] * 2 * n)
    strides, dilations = attributes.get("strides", [1] * n), attributes.get("dilations", [1] * n)
    more = attributes.get("output_padding", [0] * n)
    whole = TRANSPOSED[n](x, weight, bias, strides, 0, more, attributes.get("group", 1), dilations)
    return pad_spatial(whole, [-p for p in given[:n]], [-p for p in given[n:]]) if any(given) else whole


def conv_integer(attributes: dict[str, Any], x: Tensor, weight: Tensor, x_zero: Tensor | None = None, zero: Tensor | None = None) -> Tensor:
    """ConvInteger: as `conv`, of integers less their zero points (that of the weight one, or one per output); carried as float32."""
    x, weight = x.float(), weight.float()
    if x_zero is not None:
        x = x - x_zero.float()
    if zero is not None:
        weight = weight - zero.float().reshape(-1, *[1] * (weight.ndim - 1))
    return conv(attributes, x, weight)


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


def col2im(attributes: dict[str, Any], x: Tensor, image: Any, block: Any) -> Tensor:
    """Col2Im: x (n, c * kernel pixels, windows) -> (n, c, *image), the sum of the windows at every pixel. Two spatial axes."""
    size, kernel = tuple(numbers(image)), tuple(numbers(block))
    if len(size) != 2:
        raise NotImplementedError(f"Col2Im of {len(size)} spatial axes; expected 2")
    top, left, bottom, right = attributes.get("pads", [0] * 4)
    padded = (size[0] + top + bottom, size[1] + left + right)
    whole = F.fold(x, padded, kernel, attributes.get("dilations", (1, 1)), 0, attributes.get("strides", (1, 1)))
    return whole[:, :, top : top + size[0], left : left + size[1]]


def max_pool(attributes: dict[str, Any], x: Tensor) -> Tensor:
    """MaxPool, without the indices. Nothing is padded with -infinity: a quantizer behind would see it."""
    kernel = attributes["kernel_shape"]
    n = len(kernel)
    pool, strides, dilations = MAX_POOLS[n], attributes.get("strides", [1] * n), attributes.get("dilations", [1] * n)
    before, after = pads(attributes, x, kernel)
    extra = _ceil_extra(x, attributes, before, after, kernel)
    after = [a + e for a, e in zip(after, extra, strict=True)]
    if before == after and all(2 * p <= k for p, k in zip(before, kernel, strict=True)):
        return pool(x, kernel, strides, before, dilations)
    if any(d != 1 for d in dilations):
        return _dilated_max_pool(x, kernel, strides, before, after, dilations)
    # Every window holds a pixel of the image, and the edge beside it wherever it holds padding: repeating the edge changes no maximum.
    return pool(F.pad(x, _torch_pads(before, after), mode="replicate"), kernel, strides, 0)


def _dilated_max_pool(
    x: Tensor, kernel: list[int], strides: list[int], before: list[int], after: list[int], dilations: list[int]
) -> Tensor:
    """Pads that PyTorch does not take beside a dilation: one axis after the other, the largest of its taps. A tap outside of the image is
    the nearest inside of the same window."""
    for axis, (k, stride, front, back, d) in enumerate(zip(kernel, strides, before, after, dilations, strict=True), 2):
        size = x.shape[axis]
        starts = torch.arange(0, size + front + back - d * (k - 1), stride) - front
        taps = []
        for tap in range(k):
            place = starts + tap * d
            place = torch.where(place < 0, place % d, torch.where(place < size, place, size - 1 - (size - 1 - place) % d))
            taps.append(x.index_select(axis, place))
        x = reduce(torch.maximum, taps)
    return x


def average_pool(attributes: dict[str, Any], x: Tensor) -> Tensor:
    """AveragePool. The mean over what counts is the mean over the padded window divided by the share of it that counts."""
    kernel = attributes["kernel_shape"]
    n = len(kernel)
    pool, strides = AVERAGE_POOLS[n], attributes.get("strides", [1] * n)
    before, after = pads(attributes, x, kernel)
    extra = _ceil_extra(x, attributes, before, after, kernel)
    included = bool(attributes.get("count_include_pad", 0))
    if before == after and not any(extra) and all(2 * p <= k for p, k in zip(before, kernel, strict=True)):
        return pool(x, kernel, strides, before, False, included)
    counted = torch.ones_like(x[:1, :1])
    if included:
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


def pad(attributes: dict[str, Any], x: Tensor, amounts: Any = None, value: Any = None, axes: Any = None) -> Tensor:
    """Pad: constant, reflect, edge or wrap; negative amounts crop. Before operator set 11 amounts and value are attributes."""
    listed = numbers(amounts if amounts is not None else attributes["pads"])
    fill = value.item() if value is not None else attributes.get("value", 0.0)
    chosen = numbers(axes) if axes is not None else list(range(x.ndim))
    before, after = [0] * x.ndim, [0] * x.ndim
    for place, axis in enumerate(chosen):
        before[axis], after[axis] = listed[place], listed[len(chosen) + place]
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    mode = modes[attributes.get("mode", "constant")]
    if mode == "constant":
        outer = next(
            (axis for axis in range(x.ndim) if isinstance(before[axis] + after[axis], torch.SymInt) or before[axis] or after[axis]), x.ndim
        )
        return pad_spatial(x, before[outer:], after[outer:], fill)
    if any(before[:2]) or any(after[:2]):
        raise NotImplementedError(f"Pad of batch or channels with mode {mode}")
    return F.pad(x, _torch_pads(before[2:], after[2:]), mode=mode)


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


SIMPLE = "simple"  # what onnxruntime calls the rounding of the first Resize
ROUNDINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "round_prefer_floor": lambda x: torch.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: torch.floor(x + 0.5),
    "floor": torch.floor,
    "ceil": torch.ceil,
}


def resize(attributes: dict[str, Any], x: Tensor, roi: Any = None, scales: Any = None, sizes: Any = None) -> Tensor:
    """Resize, one axis after the other. In operator set 10 the second input is the scales, and the grid is asymmetric."""
    if attributes[OPSET] < 11:
        return upsample(attributes, x, roi)
    axes = [axis % x.ndim for axis in attributes.get("axes", range(x.ndim))]
    if sizes is not None and sizes.size:
        outs = numbers(sizes)
        # An axis that keeps its size, the batch above all, may be symbolic.
        factors = [1.0 if out in (KEPT, x.shape[axis]) else out / x.shape[axis] for out, axis in zip(outs, axes, strict=True)]
    else:
        factors = numbers(scales)
        outs = [x.shape[axis] if factor == 1 else _scaled(x.shape[axis], factor) for factor, axis in zip(factors, axes, strict=True)]
    for axis, out, factor in zip(axes, outs, factors, strict=True):
        if factor != 1:
            x = _resize_axis(attributes, x, axis, int(out), factor)
    return x


def _scaled(size: int, factor: float) -> int:
    """The new length of an axis. The product is float32's, as the scales of the file are: 10 x 0.7 is 7 there, and 6.9999 in doubles."""
    return floor(np.float32(size) * np.float32(factor))


def upsample(attributes: dict[str, Any], x: Tensor, scales: Any = None) -> Tensor:
    """Upsample (until operator set 9) and the first Resize (10): as resize with asymmetric coordinates, nearest rounded down, up where an
    axis shrinks."""
    newer = {"mode": attributes.get("mode", "nearest"), "coordinate_transformation_mode": "asymmetric", "nearest_mode": SIMPLE, OPSET: 11}
    return resize(newer, x, None, scales if scales is not None else np.array(attributes["scales"], dtype=object))


def _resize_axis(attributes: dict[str, Any], x: Tensor, axis: int, out: int, factor: float) -> Tensor:
    size = x.shape[axis]
    place = _coordinates(attributes.get("coordinate_transformation_mode", "half_pixel"), out, size, factor)
    mode = attributes.get("mode", "nearest")
    if mode == "nearest":
        rounding = attributes.get("nearest_mode", "round_prefer_floor")
        index = ROUNDINGS[("ceil" if factor < 1 else "floor") if rounding == SIMPLE else rounding](place)
        return x.index_select(axis, index.long().clamp(0, size - 1))
    low = place.floor()
    shares = _linear_shares(place - low) if mode == "linear" else _cubic_shares(place - low, attributes.get("cubic_coeff_a", -0.75))
    total: Tensor | None = None
    for offset, share in shares.items():
        part = x.index_select(axis, (low + offset).long().clamp(0, size - 1)) * share.view([-1 if a == axis else 1 for a in range(x.ndim)])
        total = part if total is None else total + part
    return x if total is None else total


def _linear_shares(share: Tensor) -> dict[int, Tensor]:
    """Neighbour -> its weight, for a point that lies `share` of a pixel behind pixel 0."""
    return {0: 1 - share, 1: share}


def _cubic_shares(share: Tensor, a: float) -> dict[int, Tensor]:
    """As `_linear_shares`, by cubic convolution (Keys, 1981)."""

    def near(t: Tensor) -> Tensor:
        return torch.as_tensor(((a + 2) * t - (a + 3)) * t * t + 1)

    def far(t: Tensor) -> Tensor:
        return torch.as_tensor(((a * t - 5 * a) * t + 8 * a) * t - 4 * a)

    return {-1: far(1 + share), 0: near(share), 1: near(1 - share), 2: far(2 - share)}


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
    axis = attributes.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.flatten(1) if axis == 1 and x.ndim > 1 else x.reshape(prod(x.shape[:axis]), -1)


def grid_sample(attributes: dict[str, Any], x: Tensor, grid: Tensor) -> Tensor:
    """GridSample: x (n, c, *space) at the places (n, *size, axes) of the grid, which count from -1 to 1."""
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(named := attributes.get("mode", "linear"), named)
    return F.grid_sample(x, grid, mode, attributes.get("padding_mode", "zeros"), bool(attributes.get("align_corners", 0)))
