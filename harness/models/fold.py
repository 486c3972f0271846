"""Batch norms of a network read from a file, folded into the convolutions before them: the same answers up to rounding, and faster."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from harness.models import onnx_norms, onnx_windows, pt2_operators
from harness.models.interpreter import GraphInterpreter, Instruction, Ref

CONVOLUTIONS = (onnx_windows.conv, torch.ops.aten.conv2d.default, torch.ops.aten.convolution.default)
NORMS = (onnx_norms.batch_norm, torch.ops.aten.batch_norm.default, pt2_operators.batch_norm)
TRANSPOSED = 6  # place of that argument of `aten.convolution`


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """A copy of a module in evaluation mode, in which every network that was read from a file has its batch norms folded.

    A batch norm stays where something else reads the convolution too, or where weights are computed from other values.
    """
    module = copy.deepcopy(module)
    for name, part in list(module.named_modules()):
        if isinstance(part, GraphInterpreter):
            if not name:
                return _folded(part)
            above, _, last = name.rpartition(".")
            setattr(module.get_submodule(above), last, _folded(part))
    return module


def _folded(network: GraphInterpreter) -> GraphInterpreter:
    weights: dict[str, Tensor] = {name: getattr(network, attribute) for name, attribute in network.attributes.items()}
    readers = Counter(name for step in network.steps for name in step.reads())
    makers = {name: place for place, step in enumerate(network.steps) for name in step.outputs}
    steps: list[Instruction | None] = list(network.steps)
    for place, norm in enumerate(network.steps):
        if not _is_norm(norm, weights):
            continue
        name = norm.arguments[0].name
        conv = network.steps[makers[name]] if name in makers else None
        if conv is not None and readers[name] == 1 and name != network.result and _folds(conv, weights):
            steps[makers[name]], steps[place] = _joined(conv, norm, weights), None
    left = [step for step in steps if step is not None]
    used = {name for step in left for name in step.reads()}
    kept = {name: tensor for name, tensor in weights.items() if name in used}
    return GraphInterpreter(left, kept, network.source, network.result).eval()


def _operator(step: Instruction) -> Any:
    """The function itself, without the attributes bound to it."""
    return getattr(step.function, "func", step.function)


def _is_norm(step: Instruction, weights: dict[str, Tensor]) -> bool:
    """Whether a step is a batch norm whose numbers are all stored."""
    stored = all(value.name in weights for value in step.arguments[1:] if isinstance(value, Ref))
    return _operator(step) in NORMS and isinstance(step.arguments[0], Ref) and not step.keywords and stored


def _folds(conv: Instruction, weights: dict[str, Tensor]) -> bool:
    """Whether a step is a convolution with stored weights."""
    if _operator(conv) not in CONVOLUTIONS or conv.keywords:
        return False
    numbers = [value for value in conv.arguments[1:3] if value is not None]
    transposed = len(conv.arguments) > TRANSPOSED and conv.arguments[TRANSPOSED] is True
    return not transposed and all(isinstance(value, Ref) and value.name in weights for value in numbers)


def _joined(conv: Instruction, norm: Instruction, weights: dict[str, Tensor]) -> Instruction:
    """The convolution that answers like both; its weight and bias are added to `weights`."""
    image, weight, bias, *rest = (*conv.arguments, None, None)[: max(len(conv.arguments), 3)]
    kernel = weights[weight.name].double()
    scale, shift = _line(norm, len(kernel), weights)
    offset = 0 if bias is None else weights[bias.name].double()
    name = norm.outputs[0]
    dtype = weights[weight.name].dtype
    weights[f"{name}/weight"] = (kernel * scale.view(-1, *[1] * (kernel.ndim - 1))).to(dtype)
    weights[f"{name}/bias"] = (offset * scale + shift).to(dtype)
    return Instruction(conv.function, (image, Ref(f"{name}/weight"), Ref(f"{name}/bias"), *rest), {}, (name,))


def _line(norm: Instruction, channels: int, weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Scale and shift of each channel, float64 (channels,): what the batch norm answers to zeros and to ones."""

    def answer(x: float) -> Tensor:
        numbers = [weights[value.name].double() if isinstance(value, Ref) else value for value in norm.arguments[1:]]
        result = norm.function(torch.full((1, channels, 1, 1), x, dtype=torch.float64), *numbers)
        channel: Tensor = result[0] if isinstance(result, tuple) else result
        return channel.flatten()

    with torch.no_grad():
        shift = answer(0.0)
        return answer(1.0) - shift, shift
