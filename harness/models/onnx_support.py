"""What of each ONNX operator is implemented: its attributes, and which inputs are numbers. The one place where a node is refused."""

from __future__ import annotations

from typing import Any

import torch
from onnx import NodeProto

from harness.errors import UsageError

Choices = tuple[Any, ...] | None  # of an attribute's value; None: any

# Attributes of our own, in each node's: its operator, which tells two steps apart where they are printed, the operator set, and its
# number of outputs.
OPERATOR, OPSET, OUTPUTS = "_operator", "_opset", "_outputs"
KEPT = -1  # of our own too, among the sizes of a Resize: as it is
# Numbers of onnx.TensorProto that have a form here.
DTYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
}
_WINDOW: dict[str, Choices] = {
    "auto_pad": ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"),
    "kernel_shape": None,
    "pads": None,
    "strides": None,
}
_REDUCTION: dict[str, Choices] = {"axes": None, "keepdims": None, "noop_with_empty_axes": None}
_AXIS: dict[str, Choices] = {"axis": None}
_EPSILON: dict[str, Choices] = {"epsilon": None}
_ALPHA: dict[str, Choices] = {"alpha": None}
_FLOAT8: dict[str, Choices] = {"saturate": None, "round_mode": None}  # concern casts to float8 alone, which is no type here

REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "ReduceSumSquare",
)  # fmt: skip

# Operator -> attribute -> values that are implemented. What is not listed is refused; an operator without an entry has no attribute.
ATTRIBUTES: dict[str, dict[str, Choices]] = {
    "Conv": {**_WINDOW, "dilations": None, "group": None},
    "ConvInteger": {**_WINDOW, "dilations": None, "group": None},
    "ConvTranspose": {**_WINDOW, "auto_pad": ("NOTSET", "VALID"), "dilations": None, "group": None, "output_padding": None},
    "MaxPool": {**_WINDOW, "ceil_mode": None, "dilations": None, "storage_order": None},  # the order of the indices, which are refused
    "AveragePool": {**_WINDOW, "ceil_mode": None, "count_include_pad": None, "dilations": ([1], [1, 1], [1, 1, 1])},
    "Pad": {"mode": ("constant", "reflect", "edge", "wrap"), "pads": None, "value": None},
    "Resize": {
        "mode": ("nearest", "linear", "cubic"),
        "coordinate_transformation_mode": ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"),
        "nearest_mode": ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
        "axes": None,
        "antialias": (0,),
        "exclude_outside": (0,),
        "keep_aspect_ratio_policy": ("stretch",),
        "cubic_coeff_a": None,
        "extrapolation_value": None,  # of tf_crop_and_resize alone
    },
    "Upsample": {"mode": ("nearest", "linear"), "scales": None},
    "DepthToSpace": {"blocksize": None, "mode": ("DCR", "CRD")},
    "SpaceToDepth": {"blocksize": None},
    "Col2Im": {"dilations": None, "pads": None, "strides": None},
    "GridSample": {
        "align_corners": None,
        "mode": ("linear", "bilinear", "nearest", "cubic", "bicubic"),
        "padding_mode": ("zeros", "border", "reflection"),
    },
    "LRN": {"alpha": None, "beta": None, "bias": None, "size": None},
    "Gemm": {"alpha": None, "beta": None, "transA": None, "transB": None},
    "Einsum": {"equation": None},
    "Attention": {
        "is_causal": None,
        "kv_num_heads": None,
        "q_num_heads": None,
        "qk_matmul_output_mode": None,  # of an output that is refused
        "scale": None,
        "softcap": (0,),
        "softmax_precision": (1,),
    },
    "BatchNormalization": {**_EPSILON, "momentum": None, "training_mode": (0,), "spatial": (1,)},  # momentum: of training alone
    "LayerNormalization": {**_EPSILON, **_AXIS, "stash_type": (1,)},
    "RMSNormalization": {**_EPSILON, **_AXIS, "stash_type": (1,)},
    "InstanceNormalization": _EPSILON,
    "GroupNormalization": {**_EPSILON, "num_groups": None, "stash_type": (1,)},
    "MeanVarianceNormalization": {"axes": None},
    "LpNormalization": {**_AXIS, "p": (1, 2)},
    "LeakyRelu": _ALPHA,
    "ThresholdedRelu": _ALPHA,
    "Elu": _ALPHA,
    "Celu": _ALPHA,
    "Selu": {**_ALPHA, "gamma": None},
    "HardSigmoid": {**_ALPHA, "beta": None},
    "Swish": _ALPHA,
    "Gelu": {"approximate": ("none", "tanh")},
    "Shrink": {"bias": None, "lambd": None},
    "Hardmax": _AXIS,
    "Softmax": _AXIS,
    "LogSoftmax": _AXIS,
    "Clip": {"min": None, "max": None},
    "Dropout": {"ratio": None, "seed": None},  # of training alone
    "Mod": {"fmod": None},
    "IsInf": {"detect_negative": (1,), "detect_positive": (1,)},
    **dict.fromkeys(REDUCTIONS, _REDUCTION),
    "CumSum": {"exclusive": None, "reverse": None},
    "Shape": {"start": None, "end": None},
    "Flatten": _AXIS,
    "Reshape": {"allowzero": None},
    "Transpose": {"perm": None},
    "Concat": _AXIS,
    "Split": {**_AXIS, "num_outputs": None, "split": None},
    "Slice": {"axes": None, "ends": None, "starts": None},
    "Gather": _AXIS,
    "GatherElements": _AXIS,
    "GatherND": {"batch_dims": (0,)},
    "ScatterElements": {**_AXIS, "reduction": ("none", "add", "mul", "max", "min")},
    "ScatterND": {"reduction": ("none", "add")},
    "TopK": {**_AXIS, "k": None, "largest": None, "sorted": (1,)},
    "ArgMax": {**_AXIS, "keepdims": None, "select_last_index": (0,)},
    "ArgMin": {**_AXIS, "keepdims": None, "select_last_index": (0,)},
    "OneHot": _AXIS,
    "Trilu": {"upper": None},
    "EyeLike": {"dtype": tuple(DTYPES), "k": None},
    "Squeeze": {"axes": None},
    "Unsqueeze": {"axes": None},
    "Constant": {"value": None, "value_float": None, "value_floats": None, "value_int": None, "value_ints": None},
    "ConstantOfShape": {"value": None},
    "Cast": {"to": tuple(DTYPES), **_FLOAT8},
    "CastLike": _FLOAT8,
    "QuantizeLinear": {**_AXIS, "block_size": (0,), "output_dtype": (0, 2, 3, 4, 5), "precision": (0, 1), "saturate": None},
    "DequantizeLinear": {**_AXIS, "block_size": None, "output_dtype": (0, 1)},
}  # fmt: skip

# Operator -> how many of its inputs are implemented, where that is not all.
INPUTS = {"Attention": 4}

# Operator -> its inputs that are numbers (axes, sizes, bounds), not tensors: bound when the file is read, or computed as sizes.
SIZE_INPUTS: dict[str, tuple[int, ...]] = {
    "Clip": (1, 2),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "CumSum": (1,),
    "Dropout": (1, 2),
    "Expand": (1,),
    "Gather": (1,),
    "OneHot": (1,),
    "Pad": (1, 2, 3),
    "Pow": (1,),
    "Range": (0, 1, 2),
    **dict.fromkeys(REDUCTIONS, (1,)),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}
SEVERAL = {
    "DynamicQuantizeLinear",
    "Split",
    "TopK",
}  # operators of more than one output; the further outputs of any other are refused where something reads them
# Of the inputs above, those that may be tensors computed from the images.
TENSORS_TOO = {"Clip", "Gather", "Pow"}
SHOWN = 60  # characters of a value in an error
EVAL = "The file was exported while training: call model.eval() and export it again."
REMEDIES = {("BatchNormalization", "training_mode"): EVAL, ("Dropout", "training_mode"): EVAL}


def check_node(node: NodeProto, attributes: dict[str, Any], used: set[str], place: str) -> None:
    """Refuse what would otherwise be ignored: an attribute, or a value of one, an input or an output that is not implemented.

    Args:
        node: of an operator of the table.
        attributes: its attributes by name, as Python values.
        used: names of all values that something reads.
        place: the file, for errors.

    Raises:
        UsageError: names the node, the operator, the attribute and what is implemented.
    """
    known = ATTRIBUTES.get(node.op_type, {})
    for key, value in attributes.items():
        choices = known.get(key, ())
        if choices is not None and value not in choices:
            raise refusal(
                node, place, f"with {key} = {str(value)[:SHOWN]}", key, f"expected {_listed(choices)}" if choices else "expected it absent"
            )
    if beyond := [key for key in node.input[INPUTS.get(node.op_type, len(node.input)) :] if key]:
        raise refusal(node, place, f"with an input '{beyond[0]}'", "input", f"expected its first {INPUTS[node.op_type]} inputs alone")
    if node.op_type not in SEVERAL:
        extra = [output for output in node.output[1:] if output in used]
        if extra:
            raise refusal(node, place, f"whose output '{extra[0]}' is used", "output", "expected its first output alone")


def refusal(node: NodeProto, place: str, what: str, key: str, expected: str) -> UsageError:
    """The error for a node that is not implemented in that form."""
    remedy = REMEDIES.get((node.op_type, key), "Export the model without it.")
    return UsageError(f"{place}: {title(node)} {what} is not implemented; {expected}. {remedy}")


def title(node: NodeProto) -> str:
    """What a node is called in errors; nodes without a name by their output."""
    return f"{node.op_type} '{node.name or node.output[0]}'"


def _listed(choices: tuple[Any, ...]) -> str:
    return " or ".join(map(str, choices))
