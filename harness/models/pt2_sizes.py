"""How much a saved program would hold in memory, found without holding it: a small file can ask for sizes without end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.errors import UsageError
from harness.models.interpreter import GraphInterpreter

LARGEST_BYTES = 1 << 28  # of one image's forward pass at once, beside the weights: some ten times what the largest classifiers hold


class TooLargeError(Exception):
    """The program asks for more than `LARGEST_BYTES`."""


class _Sizes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what each operator gives, down to those that composed operators call."""

    def __init__(self, largest: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest = largest

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        result = function(*arguments, **(keywords or {}))
        check_bytes(sum(_bytes(item) for item in tree_leaves(result)), self.largest)
        return result


def _bytes(value: Any) -> int:
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0


def check_bytes(count: int, largest: int) -> None:
    """Raise TooLargeError for more than `largest` bytes."""
    if count > largest:
        raise TooLargeError(f"asks for {count:,} bytes at once for one image")


def check_sizes(path: Path, network: GraphInterpreter, input_shape: tuple[int, int, int]) -> None:
    """Go through the program with tensors that have sizes and no contents.

    Args:
        path: for errors.
        network: as it was read; its weights may be as large as the file.
        input_shape: (channels, height, width) of one image.

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
        raise UsageError(f"{path} {error}; expected at most {largest:,}: damaged or hostile, or not a classifier") from error
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"{path} does not run on an image {input_shape}: {reason}") from error
