"""How much a saved program would hold in memory and compute, found without doing it: a small file can ask for sizes without end."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from harness.errors import UsageError
from harness.models.interpreter import GraphInterpreter
from harness.models.probe import DYNAMIC
from harness.models.pt2_operators import MOST_PARTS

LARGEST_BYTES = 1 << 28  # of one image's forward pass at once, beside the weights: some ten times what the largest classifiers hold


MOST_OPERATIONS = 1 << 41  # on one image: twice those of a ViT-H of 518 pixels; minutes on two cores
PER_NUMBER = 32  # operations of a matrix product in the time that any other operator needs for one number
MOST_CALLS = 30_000  # of operators, those that composed ones call too: several times those of the longest classifiers
POOLED = {"max_pool2d_with_indices": 2, "avg_pool2d": 2, "avg_pool3d": 3}  # operator -> axes of its window
CONTRACTED = {"addbmm", "mv", "dot", "_trilinear"}  # beside those whose operations torch counts


class TooLargeError(Exception):
    """The program asks for more than this module allows."""


class _Sizes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what each operator gives and computes, down to those that composed operators call."""

    def __init__(self, largest: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest, self.operations, self.calls = largest, 0, 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        self.calls += 1
        if self.calls > MOST_CALLS:
            raise TooLargeError(f"asks for more than {MOST_CALLS:,} calls of operators on one image")
        if (parts := _parts(function, arguments, keywords or {})) > MOST_PARTS:
            raise TooLargeError(f"cuts a tensor into {parts:,} parts")
        result = function(*arguments, **(keywords or {}))
        check_bytes(sum(_bytes(item) for item in tree_leaves(result)), self.largest)
        self.operations += _operations(function, arguments, keywords or {}, result)
        if self.operations > MOST_OPERATIONS:
            raise TooLargeError(f"asks for more than {MOST_OPERATIONS:.1e} operations on one image")
        return result


def _bytes(value: Any) -> int:
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0


def _parts(function: Any, arguments: Any, keywords: Any) -> int:
    """How many tensors a cut gives: each takes memory, however small it is."""
    if function.overloadpacket not in (torch.ops.aten.unbind, torch.ops.aten.split):
        return 1
    given = dict(zip((argument.name for argument in function._schema.arguments), arguments, strict=False)) | keywords
    size, length = given["self"].shape[given.get("dim", 0)], given.get("split_size", 1)
    return int(size // length) if isinstance(length, int) and length > 0 else 1


def _operations(function: Any, arguments: Any, keywords: Any, result: Any) -> int:
    """Roughly, where a product of matrices counts as it is, and every other number made or looked at as `PER_NUMBER`."""
    made = sum(item.numel() for item in tree_leaves(result) if isinstance(item, Tensor))
    name = function.overloadpacket.__name__
    if (count := flop_registry.get(function.overloadpacket)) is not None:
        return int(count(*arguments, **keywords, out_val=result))
    if name in POOLED:
        size = arguments[1] if isinstance(arguments[1], list | tuple) else [arguments[1]]
        return PER_NUMBER * made * math.prod(size if len(size) > 1 else [*size] * POOLED[name])
    if name in CONTRACTED:
        made *= max((item.numel() for item in tree_leaves((arguments, keywords)) if isinstance(item, Tensor)), default=1)
    return PER_NUMBER * made


def check_bytes(count: int, largest: int) -> None:
    """Raise TooLargeError for more than `largest` bytes."""
    if count > largest:
        raise TooLargeError(f"asks for {count:,} bytes at once for one image; expected at most {largest:,}")


def check_sizes(path: Path, network: GraphInterpreter, input_shape: tuple[int, int, int], batch: int | None = None) -> None:
    """Go through the program with tensors that have sizes and no contents.

    Args:
        path: for errors.
        network: as it was read; its weights may be as large as the file.
        input_shape: (channels, height, width) of one image.
        batch: number of images that it was saved for, where it says one; a view of just as many fits no other.

    Raises:
        UsageError: it would hold too much at once, or its sizes do not fit one another.
    """
    held = sum(_bytes(tensor) for tensor in (*network.parameters(), *network.buffers()))
    largest = LARGEST_BYTES + held
    try:
        check_bytes(4 * input_shape[0] * input_shape[1] * input_shape[2], largest)
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), _Sizes(largest):
            network.walk(
                torch.empty(1, *input_shape), lambda values: check_bytes(sum(map(_bytes, tree_leaves([*values.values()]))), largest)
            )
    except TooLargeError as error:
        raise UsageError(f"{path} {error}: damaged or hostile, or not a classifier") from error
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        fixed = f"; it was saved for {batch} images alone.{DYNAMIC['pt2']}" if batch not in (None, 1) else ""
        raise UsageError(f"{path} does not run on an image {input_shape}: {reason}{fixed}") from error
