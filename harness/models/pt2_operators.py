"""The operators that a saved program may call: those that classifiers are made of, each of which checks what it is given.

A file's arguments are hostile until proved otherwise. Many of aten's 3,000 overloads trust theirs: backward operators index memory with
numbers from a tensor, constructors of sparse tensors do not look at their indices, internal forms (a leading underscore) leave checks to
the public ones. None of those is here; where a decomposed program calls an internal form, its public one is called in its place.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from harness.models.pt2_straight import STRAIGHT

POINTWISE = """
abs absolute acos acosh add addcdiv addcmul asin asinh atan atan2 atanh bitwise_and bitwise_not bitwise_or bitwise_xor ceil celu clamp
clamp_max clamp_min clip cos cosh deg2rad div divide elu eq erf erfc exp exp2 expm1 fix float_power floor floor_divide fmax fmin fmod frac
ge gelu glu gt hardshrink hardsigmoid hardswish hardtanh hypot isfinite isinf isnan le leaky_relu lerp log log10 log1p log2 log_sigmoid
logaddexp logical_and logical_not logical_or logical_xor logit lt masked_fill maximum minimum mish mul multiply nan_to_num ne neg negative
positive pow prelu rad2deg reciprocal relu relu6 remainder round rsqrt rsub selu sigmoid sign silu sin sinc sinh softplus softshrink sqrt
square sub subtract tan tanh threshold true_divide trunc where xlogy
"""
REDUCTIONS = """
all amax amin aminmax any argmax argmin argsort count_nonzero cumprod cumsum dist linalg_vector_norm log_softmax logcumsumexp logsumexp max
mean median min msort nanmean nansum norm prod softmax sort std std_mean sum topk trace var var_mean
"""
LAYERS = """
adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d addbmm addmm addmv addr
affine_grid_generator alpha_dropout avg_pool1d avg_pool2d avg_pool3d baddbmm batch_norm bilinear bmm channel_shuffle conv1d conv2d
conv3d conv_transpose1d conv_transpose2d convolution cosine_similarity cross dot dropout einsum embedding feature_alpha_dropout
feature_dropout group_norm inner instance_norm kron layer_norm linear matmul max_pool1d max_pool2d max_pool2d_with_indices
max_pool3d mm mv native_layer_norm outer pairwise_distance pixel_shuffle pixel_unshuffle rms_norm scaled_dot_product_attention tensordot
upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d
"""
SHAPES = """
adjoint alias as_strided atleast_1d atleast_2d atleast_3d broadcast_tensors broadcast_to cat chunk clone col2im concat constant_pad_nd
contiguous copy detach diag diag_embed diagflat diagonal expand expand_as flatten flip fliplr flipud gather im2col index index_add
index_copy index_fill index_put index_select lift_fresh lift_fresh_copy mH mT matrix_H meshgrid movedim narrow numpy_T pad permute ravel
reflection_pad1d reflection_pad2d repeat repeat_interleave replication_pad1d replication_pad2d reshape reshape_as roll rot90 scatter select
select_scatter slice slice_scatter split split_with_sizes squeeze stack swapaxes swapdims sym_numel sym_size t take_along_dim tensor_split
tile to transpose tril triu type_as unbind unflatten unfold unsqueeze view view_as
"""
CONSTANTS = """
arange eye full full_like linspace new_full new_ones new_zeros ones ones_like scalar_tensor zero zeros zeros_like
"""
NAMES = frozenset(" ".join((POINTWISE, REDUCTIONS, LAYERS, SHAPES, CONSTANTS)).split())
MODIFY = """
add_ addcmul_ clamp_ clamp_max_ clamp_min_ copy_ detach_ div_ dropout_ elu_ exp_ fill_ gelu_ hardsigmoid_ hardswish_ hardtanh_ index_put_
leaky_relu_ masked_fill_ mish_ mul_ neg_ pow_ relu6_ relu_ selu_ sigmoid_ silu_ sqrt_ square_ squeeze_ sub_ tanh_ threshold_ transpose_
unsqueeze_ zero_
"""
IN_PLACE = frozenset(MODIFY.split())
"""Those that exported programs call in place too, on a value of their own."""
TEXT = frozenset(["gelu", "gelu_", "div", "div_", "pad", "einsum", "meshgrid", "floor_divide", "conv1d", "conv2d", "conv3d"])
"""Operators that take text, and do not take it for a file name or code."""

KINDS: dict[str, type] = {"ScalarType": torch.dtype, "Layout": torch.layout, "MemoryFormat": torch.memory_format, "Device": torch.device}
"""What a schema's enumerations are in Python. A number would be taken for one too, and one that names none ends in native code."""

LARGEST_INT = 1 << 31  # no size, stride or count of a classifier's; the end of an open slice is said as the largest there is
OPEN_END = (1 << 63) - 1
SCALES = (1 / 64, 64.0)  # of resizing


def batch_norm(x: Tensor, weight: Any, bias: Any, mean: Tensor, var: Tensor, momentum: float, eps: float) -> tuple[Tensor, None, None]:
    """As `aten._native_batch_norm_legit_no_training`: the statistics that it returns too are not needed."""
    return functional.batch_norm(x, mean, var, weight, bias, False, momentum, eps), None, None


def _group_norm(x: Tensor, weight: Any, bias: Any, n: int, c: int, hw: int, groups: int, eps: float) -> tuple[Tensor, None, None]:
    return functional.group_norm(x, groups, weight, bias, eps), None, None


def _attention(
    q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0, is_causal: bool = False, *, attn_mask: Any = None, scale: Any = None
) -> tuple[Tensor, None]:
    return functional.scaled_dot_product_attention(q, k, v, attn_mask, dropout_p, is_causal, scale=scale), None


def _rms_norm(x: Tensor, shape: list[int], weight: Any, eps: Any) -> tuple[Tensor, None]:
    return functional.rms_norm(x, shape, weight, eps), None


def _grid_sampler(x: Tensor, grid: Tensor, mode: int, padding: int, corners: bool) -> Tensor:
    names = ("bilinear", "nearest", "bicubic")[mode], ("zeros", "border", "reflection")[padding]
    return functional.grid_sample(x, grid, *names, align_corners=corners)


def _distances(x: Tensor, y: Tensor, p: float = 2.0, compute_mode: int | None = None) -> Tensor:
    """As `aten.cdist`, whose export to ONNX asks how large the batch is."""
    distances: Tensor = torch.linalg.vector_norm(x.unsqueeze(-2) - y.unsqueeze(-3), p, -1)
    return distances


PUBLIC: dict[str, Callable[..., Any]] = {
    "_softmax": lambda x, dim, half_to_float: torch.softmax(x, dim),
    "_log_softmax": lambda x, dim, half_to_float: torch.log_softmax(x, dim),
    "_unsafe_view": lambda x, size: x.reshape(size),
    "_adaptive_avg_pool2d": lambda x, size: functional.adaptive_avg_pool2d(x, size),
    "_native_batch_norm_legit_no_training": batch_norm,
    "native_group_norm": _group_norm,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_fused_rms_norm": _rms_norm,
    "cdist": _distances,
    "_cdist_forward": _distances,
    "grid_sampler": _grid_sampler,
    "grid_sampler_2d": _grid_sampler,
}
"""Internal forms of decomposed programs -> the public operator, which checks shapes, with the same arguments and number of results. And
operators that do not look at what they are given, or cannot be exported -> others of the same result."""


def _copy(into: Tensor, x: Tensor, non_blocking: bool = False) -> Tensor:
    return x.to(into.dtype).expand(into.shape).clone()


def _remainder(x: float, y: Tensor) -> Tensor:
    return torch.remainder(torch.tensor(x, dtype=torch.result_type(x, y)), y)


MOST_PARTS = 1 << 14  # that one operator may cut a tensor into


def _tensor_split(x: Tensor, sections: int, dim: int = 0) -> Any:
    if sections > MOST_PARTS:
        raise ValueError(f"tensor_split cuts a tensor into {sections:,} parts; expected at most {MOST_PARTS:,}")
    return torch.tensor_split(x, sections, dim)


BOUNDED: dict[str, Callable[..., Any] | None] = {"tensor_split.sections": _tensor_split, "tensor_split.tensor_indices_or_sections": None}
"""Overloads that take memory for as many parts as they are asked for before they cut -> the same within bounds; None: refused."""

DIFFERENTIABLE: dict[str, Callable[..., Any]] = {"copy.default": _copy, "remainder.Scalar_Tensor": _remainder}
"""Overloads that PyTorch has no derivative of (2.14) -> the same numbers by operators that have one. An assignment to a part of a tensor,
x[:, 0] = y, is such a copy in a decomposed program."""


def _numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    """Arithmetic of sizes: on numbers alone (a list times a number is a longer list), and with a result that can be one."""

    def checked(*values: Any) -> Any:
        if not all(isinstance(value, int | float | torch.SymInt | torch.SymFloat | torch.SymBool) for value in values):
            raise TypeError(f"{function.__name__} of {', '.join(type(value).__name__ for value in values)}; expected numbers")
        result = function(*values)
        if isinstance(result, int) and abs(result) > OPEN_END:
            raise ValueError(f"{function.__name__} gives a number of {result.bit_length()} bits")
        return result

    return checked


ARITHMETIC: dict[str, Callable[..., Any]] = {
    f"_operator.{name}": _numbers(getattr(operator, name))
    for name in ("add", "sub", "mul", "floordiv", "mod", "neg", "truediv", "eq", "ne", "lt", "le", "gt", "ge")
} | {"_operator.getitem": lambda values, index: list(values)[operator.index(index)]}


def find_operator(target: str) -> Callable[..., Any] | None:
    """The function of a node's target, or None where it is not one of those accepted."""
    if target in ARITHMETIC:
        return ARITHMETIC[target]
    match = re.fullmatch(r"torch\.ops\.aten\.(\w+)\.(\w+)", target)
    if match is None:
        return None
    if match[1] in PUBLIC:
        return PUBLIC[match[1]] if match[2] == "default" else None
    if match[1] not in NAMES | IN_PLACE | {"_to_copy"}:
        return None
    found = getattr(getattr(torch.ops.aten, match[1], None), match[2], None)
    if not isinstance(found, torch._ops.OpOverload) or str(found._schema).partition("(")[0] not in _on_tensors():
        return None
    kinds = [str(argument.type) for argument in found._schema.arguments]
    if any(argument.is_out for argument in found._schema.arguments) or any("Generator" in kind or "Dimname" in kind for kind in kinds):
        return None
    if any("str" in kind for kind in kinds) and match[1] not in TEXT:
        return None
    if (overload := f"{match[1]}.{match[2]}") in BOUNDED:
        return BOUNDED[overload]
    replaced = STRAIGHT | DIFFERENTIABLE
    return replaced.get(overload) or (_scaled(found) if match[1].startswith("upsample_") else found)


@cache
def _on_tensors() -> frozenset[str]:
    """Names of the dispatcher's operators. The others are TorchScript's, on numbers and lists: remainder of 0 ends the process."""
    return frozenset(torch._C._dispatch_get_all_op_names())


def check_kinds(target: str, values: Sequence[Any], named: Mapping[str, Any]) -> None:
    """Raise ValueError unless each dtype, layout, memory format and device that an operator is given, as read from the file, is one."""
    name, _, overload = target.removeprefix("torch.ops.aten.").partition(".")
    found = getattr(getattr(torch.ops.aten, name, None), overload, None)
    if not isinstance(found, torch._ops.OpOverload):
        return
    arguments = found._schema.arguments
    given = {argument.name: value for argument, value in zip(arguments, values, strict=False)} | dict(named)
    for argument in arguments:
        kind, value = KINDS.get(str(argument.real_type).removeprefix("Optional[").removesuffix("]")), given.get(argument.name)
        if kind is not None and value is not None and not isinstance(value, kind):
            raise ValueError(f"{argument.name} of {target} is {str(value)[:40]}; expected a {kind.__name__}")


def _scaled(resize: torch._ops.OpOverload) -> Callable[..., Any]:
    """A resize whose scales lie within `SCALES`: from one beyond all bounds its kernels compute a place outside of the image."""
    names = [argument.name for argument in resize._schema.arguments]

    def checked(*values: Any, **named: Any) -> Any:
        for name, value in (*zip(names, values, strict=False), *named.items()):
            scales = () if value is None or not name.startswith("scale") else value if isinstance(value, list | tuple) else (value,)
            for scale in scales:
                if not SCALES[0] <= scale <= SCALES[1]:
                    raise ValueError(f"an image is scaled by {scale}; expected {SCALES[0]} to {SCALES[1]}")
        return resize(*values, **named)

    return checked


def is_layer(target: str) -> bool:
    """Whether an operator computes with weights or statistics; attention takes a mask too, and is not counted."""
    name = target.removeprefix("torch.ops.aten.").split(".")[0]
    return "attention" not in name and (name in LAYERS.split() or PUBLIC.get(name) in (batch_norm, _group_norm, _rms_norm))


def checked_int(value: int) -> int:
    """An integer of a file that can be a size, a place or a count.

    Raises:
        ValueError: it cannot: arithmetic in 64 bits would go round.
    """
    if abs(value) > LARGEST_INT and value not in (OPEN_END, -OPEN_END - 1):
        raise ValueError(f"the integer {value if abs(value) < math.inf else '?'} is beyond any size")
    return value
